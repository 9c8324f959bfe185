"""A linear probe on a weighted sum of the layers, whose weights are learned with it.

(Yang et al., "SUPERB: Speech processing Universal PERformance Benchmark", 2021, https://arxiv.org/abs/2105.01051.)
"""

import torch
from torch import Tensor

from nest_tools.probe.classifier import ITERATIONS, PENALTY


class WeightedLayersProbe:
    """Multinomial logistic regression on a softmax-weighted sum of standardised layers.

    Args:
        layers: `[L, M, D]`, float.
        labels: `[M]`, int64; frames labelled -1 are left out.
        penalty: of each squared weight of the regression, beside the mean cross-entropy of a frame.
        iterations: of L-BFGS, at most.
    """

    def __init__(self, layers: Tensor, labels: Tensor, penalty: float = PENALTY, iterations: int = ITERATIONS):
        inputs, known = layers[:, labels >= 0].float(), labels[labels >= 0]
        self._mean, self._std = inputs.mean(1, keepdim=True), inputs.std(1, keepdim=True).clamp_min(1e-6)
        inputs = (inputs - self._mean) / self._std
        self._importance = torch.zeros(len(layers), requires_grad=True)
        self._weight = torch.zeros(int(known.max()) + 1, inputs.shape[2], requires_grad=True)
        self._bias = torch.zeros(len(self._weight), requires_grad=True)
        parameters = [self._importance, self._weight, self._bias]
        optimizer = torch.optim.LBFGS(parameters, max_iter=iterations, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(self._scores(inputs), known)
            loss = loss + penalty * self._weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)

    @property
    def importance(self) -> list[float]:
        """The share of each layer in the sum."""
        return self._importance.softmax(0).tolist()

    def _scores(self, standardised: Tensor) -> Tensor:
        summed = torch.einsum("l,lmd->md", self._importance.softmax(0), standardised)
        return torch.nn.functional.linear(summed, self._weight, self._bias)

    @torch.no_grad()
    def accuracy(self, layers: Tensor, labels: Tensor) -> float:
        """The share of frames whose phone is found; frames labelled -1 do not count."""
        inputs = (layers[:, labels >= 0].float() - self._mean) / self._std
        return float((self._scores(inputs).argmax(1) == labels[labels >= 0]).double().mean())
