"""PLSRegression predicts what Brain-Score's own regression predicts."""

from __future__ import annotations

import numpy as np
import pytest

from cerebridge import encoding

pytest.importorskip("brainscore_vision", reason="Brain-Score is not installed (make test-brainscore)")
pytestmark = pytest.mark.brainscore


@pytest.mark.parametrize("shape", [(60, 40, 30), (50, 200, 12)])
def test_the_default_is_the_regression_of_the_metric(shape):
    from brainscore_core.supported_data_standards.brainio.assemblies import NeuroidAssembly
    from brainscore_vision.metrics.regression_correlation.metric import pls_regression

    n, p, targets = shape
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)) * np.arange(1, p + 1) ** -0.5 + 1
    Y = X @ rng.standard_normal((p, targets)) + rng.standard_normal((n, targets))

    def assembly(values):
        names = [f"{i:03d}" for i in range(len(values))]
        neuroids = [f"{i:03d}" for i in range(values.shape[1])]
        coords = {
            "stimulus_id": ("presentation", names),
            "object_name": ("presentation", names),
            "neuroid_id": ("neuroid", neuroids),
            "neuroid_num": ("neuroid", range(len(neuroids))),
        }
        return NeuroidAssembly(values, coords=coords, dims=("presentation", "neuroid"))

    theirs = pls_regression()
    theirs.fit(assembly(X[10:]), assembly(Y[10:]))
    predicted = theirs.predict(assembly(X[:10]))
    ours = encoding.PLSRegression().fit(X[10:], Y[10:])
    np.testing.assert_allclose(ours.predict(X[:10]), predicted.values, atol=1e-8)
