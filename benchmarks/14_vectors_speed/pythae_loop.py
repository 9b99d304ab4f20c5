"""One training of pythae 0.1.2, timed; run by run.py with the Python of pythae's own environment.

Reads a line of JSON for every measurement, {"sizes": [F, H, D], "count": N, "epochs": E, "batch_size": B}, and answers
with the process CPU time of the training in milliseconds.
"""

import json
import logging
import sys
import tempfile
import time
import warnings

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import nn


class Encoder(BaseEncoder):
    """A hidden layer and two heads, as the other loops have."""

    def __init__(self, features: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(features, hidden), nn.ReLU())
        self.loc, self.log_scale = nn.Linear(hidden, latent), nn.Linear(hidden, latent)

    def forward(self, x: torch.Tensor) -> ModelOutput:
        """The parameters of the posterior."""
        rows = self.hidden(x)
        return ModelOutput(embedding=self.loc(rows), log_covariance=self.log_scale(rows))


class Decoder(BaseDecoder):
    """A hidden layer and a head; pythae's binary cross-entropy wants probabilities."""

    def __init__(self, features: int, hidden: int, latent: int) -> None:
        super().__init__()
        layers = (nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, features), nn.Sigmoid())
        self.network = nn.Sequential(*layers)

    def forward(self, z: torch.Tensor) -> ModelOutput:
        """The probabilities of ones."""
        return ModelOutput(reconstruction=self.network(z))


def milliseconds(sizes: list[int], count: int, epochs: int, batch_size: int, fused: bool) -> float:
    """Process CPU time of a training from the start."""
    features, _, latent = sizes
    x = (torch.rand(count, features, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    torch.manual_seed(0)
    config = VAEConfig(input_dim=(features,), latent_dim=latent, reconstruction_loss="bce")
    model = VAE(config, Encoder(*sizes), Decoder(*sizes))
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            per_device_train_batch_size=batch_size,
            learning_rate=1e-3,
            optimizer_cls="Adam",
            optimizer_params={"fused": True} if fused else None,
            no_cuda=True,
        )
        started = time.process_time()
        BaseTrainer(model, BaseDataset(x, torch.zeros(count)), training_config=settings).train()
        return 1000 * (time.process_time() - started)


def main() -> None:
    """Measures until there is nothing more to read; what pythae prints goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(milliseconds(**json.loads(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
