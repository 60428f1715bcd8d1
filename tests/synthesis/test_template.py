import numpy as np
from crude_anatomy import ellipse_whole_body
from scipy import ndimage

from app.synthesis.template import build_template
from app.synthesis.tissues import Tissue


def test_a_template_wraps_its_viscera_in_muscle():
    made = build_template(ellipse_whole_body())
    tissues = made.tissues
    expected = {
        Tissue.LIVER,
        Tissue.COLON_WALL,
        Tissue.STOOL,
        Tissue.CORTICAL_BONE,
        Tissue.LUNG,
        Tissue.SPINAL_CANAL,
        Tissue.MYOCARDIUM,
        Tissue.MESENTERY,
    }
    assert expected <= set(np.unique(tissues).tolist())
    # In-plane: the viscera of this crude body end abruptly along z.
    to_air = ndimage.distance_transform_edt(tissues != Tissue.AIR, sampling=(1e6, 1.5, 1.5))
    for inner in (Tissue.LIVER, Tissue.COLON_WALL, Tissue.MESENTERY):
        assert to_air[:40][tissues[:40] == inner].min() > 4.0, inner.name
