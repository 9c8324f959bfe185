"""`EncoderStream` against NeMo's own streaming step: time, memory, and the difference to the offline encoder.

Both run on the same model with random weights, in turns, so that a busy machine slows both alike. Times are medians.
`EncoderStream` takes audio and computes the features; NeMo's `cache_aware_stream_step` takes features that are ready.

    python benchmarks/streaming.py                       # both sizes on the CPU, one thread
    python benchmarks/streaming.py --device cuda         # with CUDA graphs, and the streams that one GPU serves
    python benchmarks/streaming.py --size small --rounds 3 --unlimited-seconds 2             # a quick look
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from omegaconf import OmegaConf
from stopwatch import seconds_of
from tqdm import tqdm

from nemo.collections.asr.models import EncDecCTCModel
from nemo.collections.asr.modules import ConformerEncoder
from nemo.collections.asr.parts.streaming import EncoderStream
from nemo.collections.asr.parts.utils.markdown import markdown_table
from nemo.collections.asr.parts.utils.streaming_utils import CacheAwareStreamingAudioBuffer, dynamic_context

SIZES = {"small": dict(d_model=176, n_layers=16, n_heads=4), "large": dict(d_model=512, n_layers=17, n_heads=8)}
"""FastConformer as in NeMo's NEST configs: 13 and 109 million weights in the encoder."""

RATE = 16000
"""Samples per second."""

FRAME = 1280
"""Samples of an encoder frame, 80 ms."""

UNLIMITED_CACHE = 10000
"""Encoder frames in NeMo's cache for an unlimited left context."""


def build_model(size: str, device: str) -> EncDecCTCModel:
    """A recogniser whose preprocessor and encoder are as the streaming configs set them, with random weights."""
    torch.manual_seed(0)
    modules = "nemo.collections.asr.modules"
    features = dict(normalize="NA", window_size=0.025, features=80, n_fft=512, pad_to=0, dither=0.0)
    encoder = dict(feat_in=80, subsampling="dw_striding", subsampling_factor=8, subsampling_conv_channels=256)
    encoder |= dict(causal_downsampling=True, conv_context_size="causal", conv_kernel_size=9)
    encoder |= dict(conv_norm_type="layer_norm", att_context_size=[160, 0], pos_emb_max_len=UNLIMITED_CACHE + 100)
    letters = list("abcdefghijklmnopqrstuvwxyz' ")
    decoder = dict(feat_in=SIZES[size]["d_model"], num_classes=len(letters), vocabulary=letters)
    config = dict(
        preprocessor=dict(_target_=f"{modules}.AudioToMelSpectrogramPreprocessor", **features),
        encoder=dict(_target_=f"{modules}.ConformerEncoder", **encoder, **SIZES[size]),
        decoder=dict(_target_=f"{modules}.ConvASRDecoder", **decoder),
        labels=letters,
        sample_rate=RATE,
    )
    return EncDecCTCModel(OmegaConf.create(config)).eval().to(device)


class NemoStream:
    """NeMo's loop over ready features, one encoder frame a step."""

    def __init__(self, encoder: ConformerEncoder, context: list[int], batch_size: int = 1):
        encoder.set_default_att_context_size(context)
        self._encoder = encoder
        parameter = next(encoder.parameters())
        self._caches = encoder.get_initial_cache_state(batch_size, device=parameter.device)
        settings = encoder.streaming_cfg
        frames = settings.pre_encode_cache_size[1] + settings.shift_size[1]
        self._features = torch.randn(batch_size, 80, frames, device=parameter.device)
        self._lengths = torch.full((batch_size,), frames, device=parameter.device)

    @torch.inference_mode()
    def step(self) -> None:
        outputs = self._encoder.cache_aware_stream_step(
            processed_signal=self._features,
            processed_signal_length=self._lengths,
            cache_last_channel=self._caches[0],
            cache_last_time=self._caches[1],
            cache_last_channel_len=self._caches[2],
            keep_all_outputs=False,
        )
        self._caches = outputs[2:5]


def noise(samples: int, batch_size: int = 1, device: str = "cpu") -> torch.Tensor:
    """`[B, N]`"""
    return 0.1 * torch.randn(batch_size, samples, device=device)


def in_turns(calls: list[Callable[[], object]], rounds: int, device: str, title: str) -> list[float]:
    """The median seconds of each call, all of them called in turns."""
    device = torch.device(device)
    times = [[seconds_of(call, device) for call in calls] for _ in tqdm(range(rounds), desc=title, leave=False)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def with_history(stream: EncoderStream, audio: torch.Tensor) -> Callable[[], object]:
    """A call that pushes `audio`, of one step, into a stream whose left context is full."""
    for _ in range(max(4, -(-stream.context.left // stream.frames_per_step) + 2)):
        stream.push(audio)
    return lambda: stream.push(audio)


def single_frame_steps(model: EncDecCTCModel, size: str, device: str, rounds: int) -> list[str]:
    """A step of one frame, NeMo's and ours."""
    nemo = NemoStream(model.encoder, [160, 0])
    ours = with_history(EncoderStream(model, "low"), noise(FRAME))
    in_turns([nemo.step, ours], 3, device, "warm-up")
    nemo_time, our_time = in_turns([nemo.step, ours], rounds, device, f"{size} [160, 0]")
    ratio = f"{our_time / nemo_time:.2f} x NeMo's time"
    return [size, "[160, 0], 1 frame per step", ms(nemo_time), ms(our_time), ratio]


def ten_frame_steps(model: EncDecCTCModel, size: str, device: str, rounds: int) -> list[str]:
    """Our step of ten frames, against ten steps of one frame."""
    single = with_history(EncoderStream(model, "low"), noise(FRAME))
    ten = with_history(EncoderStream(model, "low", frames_per_step=10), noise(10 * FRAME))
    single_time, ten_time = in_turns([single, ten], rounds, device, f"{size} 10 frames per step")
    ratio = f"{10 * single_time / ten_time:.1f} x the throughput of 1 frame per step"
    return [size, "[160, 0], 10 frames per step", "", ms(ten_time), ratio]


def unlimited_steps(model: EncDecCTCModel, size: str, device: str, rounds: int, seconds: int) -> list[str]:
    """Steps with an unlimited left context.

    NeMo's step attends to its whole cache at any time, so `rounds` steps are enough for its time. Ours attends to the
    frames so far, so the mean of all steps is taken.
    """
    nemo, stream, audio = NemoStream(model.encoder, [-1, 0]), EncoderStream(model, "unlimited"), noise(FRAME)
    nemo.step()
    nemo_times, our_times = [], []
    steps = seconds * RATE // FRAME
    for step in tqdm(range(steps), desc=f"{size} unlimited", leave=False):
        our_times.append(seconds_of(lambda: stream.push(audio), torch.device(device)))
        if step % max(1, steps // rounds) == 0:
            nemo_times.append(seconds_of(nemo.step, torch.device(device)))
    nemo_time, our_time = statistics.median(nemo_times), statistics.fmean(our_times)
    setting = f"[-1, 0], mean of the first {seconds} s"
    return [size, setting, ms(nemo_time), ms(our_time), f"{nemo_time / our_time:.0f} x faster"]


def memory(model: EncDecCTCModel, size: str) -> list[list[str]]:
    """Bytes of a stream, against layers x (2 x left + kernel - 1) x d_model x 4."""
    rows = []
    for context in ("very_low", "low", "medium", "high"):
        stream = EncoderStream(model, context)
        stream.push(noise(4 * FRAME + 77))
        held = stream.memory()
        encoder = model.encoder
        frames = 2 * stream.context.left + encoder.conv_kernel_size - 1
        arithmetic = len(encoder.layers) * frames * encoder.d_model * 4
        rows.append(
            [
                size,
                str(stream.context),
                f"{arithmetic / 1e6:.2f} MB",
                f"{held.caches / 1e6:.2f} MB",
                f"{held.caches / arithmetic:.3f}",
                f"{held.waiting / 1e6:.2f} MB",
                f"{held.tables / 1e6:.2f} MB",
                f"{held.weights / 1e6:.1f} MB",
            ]
        )
    return rows


@torch.inference_mode()
def nemo_streamed(model: EncDecCTCModel, audio: torch.Tensor) -> torch.Tensor:
    """Encoder frames `[D, S]` of NeMo's streaming loop, as its examples run it, at the model's present context."""
    buffer = CacheAwareStreamingAudioBuffer(model=model)
    buffer.append_audio(audio[0].numpy())
    encoder, frames = model.encoder, []
    caches = encoder.get_initial_cache_state(1)
    for step, (features, lengths) in enumerate(buffer):
        encoded, counts, *caches = encoder.cache_aware_stream_step(
            processed_signal=features,
            processed_signal_length=lengths,
            cache_last_channel=caches[0],
            cache_last_time=caches[1],
            cache_last_channel_len=caches[2],
            keep_all_outputs=buffer.is_buffer_empty(),
            drop_extra_pre_encoded=0 if step == 0 else encoder.streaming_cfg.drop_extra_pre_encoded,
        )
        frames.append(encoded[0, :, : counts[0]].cpu())
    return torch.cat(frames, dim=-1)


def differences(model: EncDecCTCModel, size: str, seconds: int) -> list[list[str]]:
    """The largest difference to the offline encoder, of NeMo's stream and of ours."""
    audio, rows = noise(seconds * RATE), []
    for context in ([16, 0], [80, 0], [160, 0]):
        with dynamic_context(model, context), torch.inference_mode():
            features, lengths = model.preprocessor(
                input_signal=audio.to(model.device), length=torch.tensor([audio.shape[1]], device=model.device)
            )
            offline = model.encoder(audio_signal=features, length=lengths)[0][0].cpu()
            theirs = nemo_streamed(model, audio)
        with EncoderStream(model, context) as stream:
            ours = torch.cat([stream.push(audio)[0], stream.finish()[0]], dim=-1)[0].cpu()
        shared = min(theirs.shape[1], ours.shape[1])
        gaps = [(frames[:, :shared] - offline[:, :shared]).abs().max().item() for frames in (theirs, ours)]
        rows.append([size, str(context), f"{gaps[0]:.1e}", f"{gaps[1]:.1e}"])
    return rows


def on_gpu(model: EncDecCTCModel, rounds: int, size: str) -> tuple[list[list[str]], list[list[str]]]:
    """Graphed steps against NeMo's eager ones, and how many streams keep up with real time."""
    rows, served = [], []
    for batch in (1, 8, 64, 256, 1024):
        audio = noise(FRAME, batch, "cuda")
        nemo = NemoStream(model.encoder, [160, 0], batch)
        calls = [nemo.step]
        for graphs in (False, True):
            calls.append(with_history(EncoderStream(model, "low", batch_size=batch, cuda_graphs=graphs), audio))
        in_turns(calls, 20, "cuda", "warm-up")
        nemo_time, eager, graphed = in_turns(calls, rounds, "cuda", f"{size} batch {batch}")
        rows.append([size, str(batch), ms(nemo_time), ms(eager), ms(graphed), f"{graphed / nemo_time:.3f}"])
        served.append([size, str(batch), ms(graphed), f"{batch * 0.08 / graphed:.0f}"])
    return rows, served


def ms(value: float) -> str:
    return f"{1000 * value:.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[*SIZES, "both"], default="both")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=60, help="measured steps of each kind")
    parser.add_argument("--unlimited-rounds", type=int, default=3, help="steps of NeMo's unlimited stream (slow)")
    parser.add_argument("--unlimited-seconds", type=int, default=30, help="audio of our unlimited stream")
    parser.add_argument("--difference-seconds", type=int, default=16, help="audio for the difference to offline")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    times: list[list[str]] = []
    memories: list[list[str]] = []
    gaps: list[list[str]] = []
    gpu: tuple[list[list[str]], list[list[str]]] = ([], [])
    for size in SIZES if options.size == "both" else [options.size]:
        model = build_model(size, options.device)
        times.append(single_frame_steps(model, size, options.device, options.rounds))
        times.append(ten_frame_steps(model, size, options.device, options.rounds))
        times.append(unlimited_steps(model, size, options.device, options.unlimited_rounds, options.unlimited_seconds))
        memories += memory(model, size)
        gaps += differences(model, size, options.difference_seconds)
        if options.device == "cuda":
            for rows, new in zip(gpu, on_gpu(model, options.rounds, size), strict=True):
                rows += new
    print(f"\n{options.device}, {options.threads} thread(s), torch {torch.__version__}, batch 1, medians\n")
    print(markdown_table(["size", "context", "NeMo", "ours", "ratio"], times))
    print("\nMemory of a stream\n")
    header = ["size", "context", "arithmetic", "caches", "ratio", "waiting", "shared positions", "copied weights"]
    print(markdown_table(header, memories))
    print(f"\nLargest difference to the offline encoder, {options.difference_seconds} s of noise\n")
    print(markdown_table(["size", "context", "NeMo's stream", "ours"], gaps))
    if gpu[0]:
        print("\n[160, 0], one frame per step\n")
        print(markdown_table(["size", "batch", "NeMo eager", "ours eager", "ours graphed", "graphed / NeMo"], gpu[0]))
        print("\nStreams in real time on this GPU (batch x 80 ms / step)\n")
        print(markdown_table(["size", "batch", "step", "streams"], gpu[1]))


if __name__ == "__main__":
    main()
