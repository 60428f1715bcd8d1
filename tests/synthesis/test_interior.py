import numpy as np
from crude_anatomy import ellipsoid

from app.synthesis.interior import fill_organs
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue


def test_gas_in_the_stomach_lies_in_front():
    tissues = np.where(ellipsoid((30, 40, 36), (15, 20, 18), (12, 16, 14)), 11, 0).astype(np.uint8)
    rows = []
    for seed in range(6):
        filled = tissues.copy()
        fill_organs(filled, (2.0, 1.5, 1.8), np.random.default_rng(seed))
        gas, food = filled == Tissue.STOMACH_GAS, filled == Tissue.STOMACH_CONTENT
        if gas.any() and food.any():
            rows.append((np.nonzero(gas)[1].max(), np.nonzero(food)[1].min()))
        np.testing.assert_array_equal(ORGAN_OF_TISSUE[filled], tissues)
    assert rows
    assert all(last_gas < first_food for last_gas, first_food in rows)
