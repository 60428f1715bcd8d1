"""CT scans made from label maps: anatomy, tissue intensities, scanner.

:mod:`app.synthesis.phantom` makes scans of a body laid down by hand, from no
patient; :mod:`app.synthesis.body` builds bodies around the organs of real
patients, for training. Both are maps of :mod:`app.synthesis.tissues`.
"""
