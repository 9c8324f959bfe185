"""A whole training step (features, masking, tokens, encoder, loss, backward, optimizer) against NeMo's.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --device cuda --size large --batch 32 --precision bf16-mixed
    python benchmarks/training_step.py --profile

Each side is a process of its own that trains through Lightning: NeMo's with `NEMO_OVERLAY=0`, which leaves this patch
out, and ours. Both run the recipe that NeMo can train (`pad_to: 16`, no causal subsampling, unlimited attention,
features normalised over the utterance), on the same audio and from the same weights; the streaming recipe, which NeMo
cannot train, is run by ours alone. The processes take turns, one step each, so that a busy machine slows all alike.
CPU seconds are those of all threads, and say more than the clock where other machines share the host. Memory is what a
step needs at its peak beyond what lay there before the first one: of the process on a CPU, of the allocator on a GPU.

`--profile` prints how a step divides into its parts and operators instead (torch.profiler).
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

CONFIGS = Path(__file__).resolve().parent.parent / "examples/asr/conf/ssl/nest"
CONFIG = CONFIGS / "nest_fast-conformer_streaming_dynamic.yaml"

SIZES = {
    "small": {"d_model": 176, "n_heads": 4, "n_layers": 16},
    "large": {"d_model": 512, "n_heads": 8, "n_layers": 17},
}
OFFLINE = {
    "preprocessor.normalize": "per_feature",
    "preprocessor.pad_to": 16,
    "encoder.causal_downsampling": False,
    "encoder.att_context_size": [-1, -1],
    "encoder.att_context_probs": None,
    "encoder.conv_norm_type": "batch_norm",
    "encoder.conv_context_size": None,
}
STREAMING_KEYS = (
    "masking.causal",
    "masking.left_context_size",
    "masking.causal_window",
    "quantizer.normalize",
    "encoder.blockwise_attention",
)
SIDES = {"NeMo": "0", "ours": "1", "ours, streaming": "1"}
"""The sides, and `NEMO_OVERLAY` in their processes."""

TOP_OPERATORS = 12


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small", help="small: 14M parameters, large: 110M")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--steps", type=int, default=9, help="measured steps of each side, after two to warm up")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", default="32", help="of Lightning's Trainer")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch; 0: its own choice")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # in a side's own process
    return parser.parse_args()


# ----------------------------------------------------------------------------------------- in the process of one side


def model_config(side: str, size: str):
    from omegaconf import OmegaConf, open_dict

    config = OmegaConf.load(CONFIG).model
    for key, value in SIZES[size].items():
        config.encoder[key] = value
    config.update(train_ds=None, validation_ds=None)
    if side != "ours, streaming":
        with open_dict(config):
            for key, value in OFFLINE.items():
                OmegaConf.update(config, key, value)
            for key in STREAMING_KEYS:
                section, name = key.split(".")
                config[section].pop(name)
            for key in ("target_shift", "context_seed"):
                config.pop(key)
    return config


def run_side(arguments: argparse.Namespace) -> None:
    """Trains step by step: waits for a line on stdin before each, and answers with a line of JSON on stdout."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what NeMo prints goes to stderr

    import lightning.pytorch as pl
    import torch

    from nemo.collections.asr.data.ssl_dataset import AudioNoiseBatch
    from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = EncDecDenoiseMaskedTokenPredModel(model_config(arguments.side, arguments.size))
    clean = 0.1 * torch.randn(arguments.batch, int(16000 * arguments.seconds))
    noise = 0.02 * torch.randn_like(clean)
    lengths = torch.full((arguments.batch,), clean.shape[1])
    batch = AudioNoiseBatch(
        audio=clean,
        audio_len=lengths,
        noise=noise,
        noise_len=lengths,
        noisy_audio=clean + noise,
        noisy_audio_len=lengths,
    )
    parts = parts_of_a_step(model) if arguments.profile else None

    class InTurns(pl.Callback):
        def on_train_batch_start(self, trainer, model, batch, batch_idx):
            if batch_idx == 0:
                self.before = memory(trainer.strategy.root_device)
            if not sys.stdin.readline():
                raise SystemExit("the benchmark has ended")
            self.watch = PeakMemory(trainer.strategy.root_device)
            if parts is not None and batch_idx >= 2:
                parts.begin_step()
            self.begun, self.begun_cpu = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
            if arguments.device == "cuda":
                torch.cuda.synchronize()
            answer = {
                "seconds": time.perf_counter() - self.begun,
                "cpu_seconds": time.process_time() - self.begun_cpu,
                "bytes": self.watch.stop() - self.before,
                "loss": float(outputs["loss"]),
            }
            if parts is not None and batch_idx >= 2:
                parts.end_step()
            answer["parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
            if parts is not None and batch_idx == arguments.steps + 1:
                answer["profile"] = parts.summary()
            answers.write(json.dumps(answer) + "\n")

    trainer = pl.Trainer(
        accelerator="gpu" if arguments.device == "cuda" else "cpu",
        devices=1,
        precision=arguments.precision,
        max_steps=arguments.steps + 2,
        callbacks=[*([parts] if parts else []), InTurns()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model.set_trainer(trainer)
    trainer.fit(model, torch.utils.data.DataLoader([batch] * (arguments.steps + 2), batch_size=None))


def memory(device) -> int:
    """Bytes in use: of the process on a CPU, of torch's allocator on a GPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    resident = Path("/proc/self/statm").read_text().split()[1]
    return int(resident) * resource.getpagesize()


class PeakMemory:
    """The most memory in use between construction and `stop`; on a CPU looked at every millisecond."""

    def __init__(self, device):
        import torch

        self.device = device
        self.peak = memory(device)
        self.running = device.type != "cuda"
        if self.running:
            self.thread = threading.Thread(target=self._look, daemon=True)
            self.thread.start()
        else:
            torch.cuda.reset_peak_memory_stats(device)

    def _look(self) -> None:
        while self.running:
            self.peak = max(self.peak, memory(self.device))
            time.sleep(0.001)

    def stop(self) -> int:
        import torch

        if not self.running:
            return torch.cuda.max_memory_allocated(self.device)
        self.running = False
        self.thread.join()
        return self.peak


def parts_of_a_step(model):
    """A callback that profiles the measured steps; `summary()` divides it by part and by operator."""
    import lightning.pytorch as pl
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    named = {
        "features": model.preprocessor,
        "masking": model.mask_processor,
        "subsampling": model.encoder.pre_encode,
        "layers": None,
        "decoder": model.decoder,
        "tokenizer": model.quantizer,
        "loss": model.loss,
    }

    class PartsOfAStep(pl.Callback):
        def __init__(self):
            self.open = []
            self.profile = None
            for name, module in named.items():
                for one in [module] if module is not None else model.encoder.layers:
                    one.register_forward_pre_hook(lambda *_, name=name: self.enter(name))
                    one.register_forward_hook(lambda *_: self.leave())

        def enter(self, name: str) -> None:
            self.open.append(record_function(f"part: {name}"))
            self.open[-1].__enter__()

        def leave(self) -> None:
            self.open.pop().__exit__(None, None, None)

        def begin_step(self) -> None:
            if self.profile is None:
                kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
                self.profile = profile(activities=kinds)
                self.profile.__enter__()
            self.enter("step")

        def end_step(self) -> None:
            while self.open:
                self.leave()

        def on_before_backward(self, trainer, model, loss):
            self.enter("backward")

        def on_after_backward(self, trainer, model):
            self.leave()

        def on_before_optimizer_step(self, trainer, model, optimizer):
            self.enter("optimizer")

        def summary(self) -> dict:
            self.profile.__exit__(None, None, None)
            events = self.profile.key_averages()
            parts = {e.key[6:]: e.cpu_time_total for e in events if e.key.startswith("part: ")}
            device = torch.cuda.is_available()
            operators = {
                e.key: e.self_device_time_total if device else e.self_cpu_time_total
                for e in events
                if e.key.startswith(("aten::", "Optimizer"))
            }
            return {"parts": parts, "operators": operators}

    return PartsOfAStep()


# ------------------------------------------------------------------------------------------------------- all together


class Side:
    """The process of one side."""

    def __init__(self, name: str):
        self.name = name
        command = [sys.executable, __file__, *sys.argv[1:], "--side", name]
        environment = {**os.environ, "NEMO_OVERLAY": SIDES[name]}
        self.errors = []
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        for line in self.process.stderr:
            self.errors = [*self.errors[-40:], line]

    def step(self) -> dict:
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, as the missing answer says
        answer = self.process.stdout.readline()
        if not answer:
            self.process.wait()
            raise SystemExit(f"{self.name} ended with status {self.process.returncode}:\n{''.join(self.errors)}")
        return json.loads(answer)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def print_comparison(answers: dict[str, list[dict]]) -> None:
    columns = "s a step", "NeMo's / it", "CPU s a step", "NeMo's / it", "peak memory", "of NeMo's", "last loss"
    print(f"\n| | parameters | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
    theirs = answers.get("NeMo")
    for name, steps in answers.items():
        cells = [f"{steps[0]['parameters'] / 1e6:.1f}M"]
        for kind in ("seconds", "cpu_seconds"):
            cells.append(f"{statistics.median(step[kind] for step in steps):.3f}")
            ratio = theirs and statistics.median(b[kind] / a[kind] for a, b in zip(steps, theirs, strict=True))
            cells.append(f"{ratio:.2f} x" if ratio else "-")
        peak = max(step["bytes"] for step in steps)
        cells.append(f"{peak / 1e9:.2f} GB")
        cells.append(f"{peak / max(step['bytes'] for step in theirs):.2f} x" if theirs else "-")
        print(f"| {name} | {' | '.join(cells)} | {steps[-1]['loss']:.3f} |")


def print_profile(answers: dict[str, list[dict]]) -> None:
    profiles = {name: steps[-1]["profile"] for name, steps in answers.items()}
    head = "".join(f" {name} |" for name in profiles)
    for kind, title in (("parts", "part"), ("operators", "operator, self time")):
        print(f"\n| {title} |{head}\n|---|{'---|' * len(profiles)}")
        whole = {name: profiles[name]["parts"]["step"] for name in profiles}
        if kind == "operators":
            whole = {name: sum(profiles[name]["operators"].values()) for name in profiles}
        shares = {name: {key: value / whole[name] for key, value in profiles[name][kind].items()} for name in profiles}
        keys = {key: max(shares[name].get(key, 0.0) for name in profiles) for name in profiles for key in shares[name]}
        keys.pop("step", None)
        for key in sorted(keys, key=keys.get, reverse=True)[:TOP_OPERATORS]:
            print(f"| {key} |" + "".join(f" {100 * shares[name].get(key, 0.0):.1f} % |" for name in profiles))


def main() -> None:
    arguments = parse_arguments()
    if arguments.side:
        run_side(arguments)
        return
    sides = [Side(name) for name in arguments.sides]
    answers = {side.name: [] for side in sides}
    for step in range(arguments.steps + 2):
        for side in sides:
            answer = side.step()
            if step >= 2:
                answers[side.name].append(answer)
    for side in sides:
        side.end()
    print(f"{arguments.size}, batch {arguments.batch}, {arguments.seconds:g} s, {arguments.device}", end=", ")
    print(f"precision {arguments.precision}, {arguments.threads or os.cpu_count()} CPU threads")
    if arguments.profile:
        print_profile(answers)
    else:
        print_comparison(answers)


if __name__ == "__main__":
    main()
