"""The typed names of the forward's arguments."""

from nemo.core.neural_types import LengthsType, NeuralType, SpectrogramType

__all__ = ["with_forward_names"]

_LENGTHS = NeuralType(tuple("B"), LengthsType(), optional=True)


def with_forward_names(types: dict[str, NeuralType]) -> dict[str, NeuralType]:
    """NeMo's input types, with those names of the forward that NeMo left out."""
    names = dict(types)
    if "processed_noisy_signal" in names:
        spectrogram = NeuralType(("B", "D", "T"), SpectrogramType(), optional=True)
        names["processed_noisy_input_signal"], names["processed_noisy_input_signal_length"] = spectrogram, _LENGTHS
        names["processed_noise_signal_length"] = _LENGTHS
    return names
