"""What a training of the ablation may leave, for tests of its tables."""

from ablation_parts.arms import CONTEXTS as PAIRS

CONTEXTS = [str(context) for context in PAIRS]


def run(loss: float, targets: float, probe: float = 0.5) -> dict:
    """What a training may leave: two evaluations, the second after twice the targets and with half the loss."""

    def evaluation(share: float, value: float) -> dict:
        figures = {"loss": value, "accuracy": 0.25, "targets": 100}
        tokens = {"entropy": 3.0, "most_frequent": 0.2}
        return {
            "step": 10 * share,
            "targets": share * targets,
            "tokens": tokens,
            **{context: figures for context in CONTEXTS},
        }

    found = {"all_layers": probe, "last_layer": probe / 2}
    return {
        "history": [evaluation(0.5, 2 * loss), evaluation(1, loss)],
        "steps": 10,
        "blind": {context: 0.5 for context in CONTEXTS},
        "probe": {**{context: found for context in CONTEXTS}, "log-mels": found, "most frequent phone": found},
        "untrained_probe": {context: found for context in CONTEXTS},
    }
