r"""Linear autoencoders, principal components and probabilistic PCA: a `GraphVAE` with one linear layer each way.

With codes z = V x and reconstructions U z, U `(F, K)` and V `(K, F)`, squared error alone finds the space of the first
K principal components, and no basis of it: U M and the inverse of M times V are as good, for any invertible M.
Objectives differ in what they do about that:

| objective | principal components, up to sign |
| --- | --- |
| `objectives.reconstruction` | by `principal_components(model, x)` only |
| `UniformL2` | the left singular vectors of U, by `principal_components(model)` |
| `NonUniformL2`, `NestedDropout`, `RotationAugmented` | the columns of U, in order, by `decoder_columns(model)` |
| `analytic_elbo`, `bounds.elbo` of a `linear_vae` | the columns of U in some order, by `principal_components(model)` |

where the first K + 1 variances differ. All of them see data through mean and covariance alone, so

    x, mean = centred(x.double())
    model = linear_autoencoder(64, 10).double()
    fit(model, edgeless(compressed(x)), NestedDropout(), epochs=10_000, optimizer=..., scheduler=...)

takes steps that cost the same for any number of rows; `recipes.principal_components` has optimiser and schedule.
"""

from graphvae.linear.components import (
    Components,
    centred,
    compressed,
    decoder_columns,
    exact_pca,
    principal_components,
)
from graphvae.linear.models import linear_autoencoder, linear_vae
from graphvae.linear.objectives import NestedDropout, NonUniformL2, RotationAugmented, UniformL2
from graphvae.linear.probabilistic import (
    analytic_elbo,
    diagonal_gap,
    log_marginal,
    probabilistic_pca,
    set_best_posterior,
)

__all__ = [
    "Components",
    "NestedDropout",
    "NonUniformL2",
    "RotationAugmented",
    "UniformL2",
    "analytic_elbo",
    "centred",
    "compressed",
    "decoder_columns",
    "diagonal_gap",
    "exact_pca",
    "linear_autoencoder",
    "linear_vae",
    "log_marginal",
    "principal_components",
    "probabilistic_pca",
    "set_best_posterior",
]
