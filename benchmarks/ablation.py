"""Does masking in sync with attention help, and which window? The same small model trained with each, and compared.

    python benchmarks/ablation.py --out ablation
    python benchmarks/ablation.py --out ablation --size large --device cuda
    python benchmarks/ablation.py --tables benchmarks/results/ablation.jsonl

Arms differ in one thing: how masks follow the attention's context, which encoder frame predicts a token, how the
tokenizer's input is normalised; and, in a second recipe, how much is masked. Data, their order, initial weights,
contexts drawn, tokens and steps are the same for all arms of a seed. Every arm is evaluated on the same masks, those
of the base arm, at each context: arms that never hide so much at a short context are at a disadvantage there. The
voices of evaluation are not those of training, the sentences are. Since arms differ in how many targets a step has,
they are compared three times: after equal steps; where each had as many targets as the arm with the fewest has in the
end; and, at equal steps and equal targets at once, `tail` with `sliding` at a lower rate. Last, a linear probe for
phones (`phone_probe.py`) is fitted on the frozen frames, of all layers and of the last one.

A run ended at any time goes on where it was. After each training it writes `ablation.md`, the tables of what is
finished, and `ablation.jsonl`, all figures, a training a line, from which `--tables` makes the tables again.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import torch
from ablation_report import report
from torch import Tensor

EXAMPLES = Path(__file__).resolve().parent.parent / "examples/asr"
sys.path.insert(0, str(EXAMPLES / "speech_pretraining"))

CONTEXTS = ([8, 0], [16, 0], [80, 0], [-1, 0])
BASE = {"masking.mask_prob": 0.02, "masking.block_size": 16}
DENSER = {"masking.mask_prob": 0.06, "masking.block_size": 24}


@dataclass(frozen=True)
class Arm:
    """One way to train: what it changes in the base arm's config."""

    name: str
    meaning: str
    config: dict = field(default_factory=dict)
    compared_with: str = "sliding"


LITERAL = {"masking.causal_window": "tail", "masking.subsampling_factor": 1}
ARMS = (
    Arm("sliding", "synced; masks everywhere, no target is blind (the base arm)"),
    Arm("unsynced", "NeMo's masks, whatever the context", {"masking.causal": False}),
    Arm("random", "synced; a window anywhere", {"masking.causal_window": "random"}),
    Arm("tail", "synced; the last window", {"masking.causal_window": "tail"}),
    Arm("literal", "synced to the context counted in feature frames", LITERAL),
    Arm("shift 0", "sliding; the token of frames not yet seen is predicted", {"target_shift": 0}),
    Arm("shift +1", "sliding; a token is predicted one frame later than it can be", {"target_shift": 2}),
    Arm("not normalised", "sliding; the tokenizer's input as it is", {"quantizer.normalize": "none"}),
    Arm("sliding, sparser", "sliding, with as many targets as tail", {"masking.mask_prob": 0.008}),
    Arm("sliding, denser", "as sliding, blocks of 24 at 0.06", DENSER, "sliding, denser"),
    Arm(
        "unsynced, denser", "as unsynced, blocks of 24 at 0.06", {"masking.causal": False, **DENSER}, "sliding, denser"
    ),
    Arm(
        "tail, denser", "as tail, blocks of 24 at 0.06", {"masking.causal_window": "tail", **DENSER}, "sliding, denser"
    ),
)


@dataclass(frozen=True)
class Size:
    """How much is trained on, and for how long."""

    minutes: float
    steps: int
    batch: int
    crop_seconds: float
    encoder: dict = field(default_factory=dict)


SIZES = {
    "tiny": Size(minutes=1, steps=4, batch=2, crop_seconds=6, encoder={"n_layers": 1, "d_model": 32}),
    "default": Size(minutes=40, steps=900, batch=8, crop_seconds=12),
    "large": Size(
        minutes=400,
        steps=10000,
        batch=32,
        crop_seconds=12,
        encoder={"n_layers": 16, "d_model": 176, "subsampling_conv_channels": 176},
    ),
}
SEEDS = 3
EVALUATIONS = 6
VALIDATION_MINUTES, MASK_DRAWS = 6.0, 2
"""Speech of an evaluation, and the sets of masks on it: about 2000 targets."""
PEAK_LEARNING_RATE, WARM_UP = 2e-3, 100
JOB_ENVIRONMENT = {"OMP_NUM_THREADS": "1"} | dict.fromkeys(
    ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**32)
)
"""Of a training's process; glibc keeps freed memory for the next step, as in the Makefile."""
PROBE_MINUTES = 10.0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("ablation"),
        help="folder for corpus, runs and results, one in it for each size",
    )
    parser.add_argument("--size", choices=SIZES, default="default")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, help=f"trainings of each arm, at least 2 (default: {SEEDS})"
    )
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS], default=[arm.name for arm in ARMS])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--jobs", type=int, help="trainings at a time, each on one CPU thread (default: one for each CPU; 2 on a GPU)"
    )
    parser.add_argument("--tables", type=Path, metavar="FILE", help="print the tables of an ablation.jsonl, and end")
    parser.add_argument("--train", nargs=2, metavar=("ARM", "SEED"), help=argparse.SUPPRESS)  # a job's own process
    return parser.parse_args()


# -------------------------------------------------------------------------------------------------------- one training


def features_of(manifest: Path, preprocessor) -> list[Tensor]:
    """Log-mel features `[D, T]` of a manifest's utterances."""
    from phone_probe import read_split

    features = []
    for utterance in read_split(manifest):
        one, length = preprocessor(input_signal=utterance.audio[None], length=torch.tensor([len(utterance.audio)]))
        features.append(one[0, :, : int(length)].clone())
    return features


def padded(features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """`[B, D, T]` and lengths `[B]`."""
    rows = torch.nn.utils.rnn.pad_sequence([one.T for one in features], batch_first=True)
    return rows.transpose(1, 2).contiguous(), torch.tensor([one.shape[1] for one in features])


def build_model(arm: Arm, size: Size, seed: int):
    """The arm's model: weights from the seed, a tokenizer that is the same for all seeds."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel

    with initialize_config_dir(str(EXAMPLES / "conf/ssl/nest"), version_base=None):
        config = compose("nest_streaming_demo").model
    OmegaConf.set_struct(config, False)
    config.update(train_ds=None, validation_ds=None)
    changes = {
        "encoder.att_context_size": [list(context) for context in CONTEXTS],
        "encoder.att_context_probs": None,
        "context_seed": seed,
        **{f"encoder.{key}": value for key, value in size.encoder.items()},
        **BASE,
        **arm.config,
    }
    for key, value in changes.items():
        OmegaConf.update(config, key, value, force_add=True)
    torch.manual_seed(0)
    quantizer = EncDecDenoiseMaskedTokenPredModel(config).quantizer.state_dict()
    torch.manual_seed(seed + 1)
    model = EncDecDenoiseMaskedTokenPredModel(config)
    model.quantizer.load_state_dict(quantizer)
    return model


def fixed_masks(size: Size, features: Tensor, lengths: Tensor) -> list[Tensor]:
    """The masks `[B, T]` of evaluation, those of the base arm for seed 0."""
    from nemo.collections.asr.models.ssl_models import SpeechFeatures

    base = build_model(ARMS[0], size, seed=0)
    speech = SpeechFeatures(features, lengths, features, lengths)
    return [base._evaluation_mask(speech, batch_idx=draw, dataloader_idx=0) for draw in range(MASK_DRAWS)]


@torch.no_grad()
def evaluate(model, features: Tensor, lengths: Tensor, masks: list[Tensor]) -> dict:
    """Loss and accuracy at each context on given masks, and the entropy of the tokens."""
    from nemo.collections.asr.models.ssl_models import SpeechFeatures
    from nemo.collections.asr.parts.attention_context import AttentionContext

    model.eval()
    speech = SpeechFeatures(features, lengths, features, lengths)
    figures = {}
    for pair in CONTEXTS:
        context = AttentionContext.parse(pair)
        totals = torch.zeros(3, dtype=torch.float64)  # negative log-likelihood, right answers, targets
        for mask in masks:
            with model.encoder.context.evaluating(context):
                encoded, encoded_len, hidden = model._encode(speech, True, context, mask)
            tokens = model._tokens(speech, encoded_len)
            totals += torch.stack(
                model.loss.statistics(
                    masks=hidden,
                    decoder_outputs=model.decoder(encoder_output=encoded),
                    targets=tokens,
                    decoder_lengths=encoded_len,
                )
            ).cpu()
        nll, correct, targets = totals.tolist()
        figures[str(pair)] = {"loss": nll / targets, "accuracy": correct / targets, "targets": targets}
    ids = torch.cat([row[:length] for row, length in zip(tokens[..., 0], encoded_len, strict=True)])
    shares = torch.bincount(ids).double() / len(ids)
    shares = shares[shares > 0]
    figures["tokens"] = {"entropy": float(-(shares * shares.log()).sum()), "most_frequent": float(shares.max())}
    model.train()
    return figures


def train(arm: Arm, seed: int, size: Size, out: Path, device: torch.device) -> None:
    """Trains one arm with one seed, and writes its result; goes on from its checkpoint where there is one."""
    from demo_corpus import make_corpus
    from phone_probe import probe, read_split

    from nemo.collections.asr.losses.ssl_losses.mlm import target_mask
    from nemo.collections.asr.modules.ssl_modules.mask_audit import audit_masks
    from nemo.utils import logging

    logging.setLevel(logging.ERROR)
    torch.set_num_threads(1)
    corpus = make_corpus(out / "corpus", minutes=size.minutes, validation_minutes=VALIDATION_MINUTES, progress=False)
    model = build_model(arm, size, seed)
    model.eval()
    with torch.no_grad():
        utterances = features_of(corpus.train_manifest, model.preprocessor)
        held_out, held_lengths = padded(features_of(corpus.validation_manifest, model.preprocessor))
    # This sets torch's seed, so that training's masks are made of the same random numbers for all seeds.
    held_masks = [mask.to(device) for mask in fixed_masks(size, held_out, held_lengths)]
    held_out, held_lengths = held_out.to(device), held_lengths.to(device)
    model.to(device).train()

    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / WARM_UP) * 0.5 * (1.01 + 0.99 * math.cos(math.pi * step / size.steps)),
    )
    order = random.Random(seed)
    first, targets, history = 0, 0.0, []
    blind = {str(context): [0, 0] for context in CONTEXTS}  # blind targets, and the utterances that they were in
    checkpoint = run_folder(out, arm.name, seed) / "checkpoint.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=False)
        model.load_state_dict(state["model"])
        model.context_sampler.load_state_dict(state["sampler"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        of_cpu, *of_gpus = (one.cpu() for one in state["random"])
        torch.set_rng_state(of_cpu)
        torch.cuda.set_rng_state_all(of_gpus)
        order.setstate(state["order"])
        first, targets, history, blind = state["step"], state["targets"], state["history"], state["blind"]

    every = max(1, size.steps // EVALUATIONS)
    crop = int(size.crop_seconds * 100)
    for step in range(first, size.steps):
        chosen = []
        for utterance in order.sample(utterances, size.batch):
            start = order.randrange(max(1, utterance.shape[1] - crop))
            chosen.append(utterance[:, start : start + crop])
        features, lengths = (tensor.to(device) for tensor in padded(chosen))
        log_probs, encoded_len, masks, tokens = model.forward(
            processed_signal=features, processed_signal_length=lengths, apply_mask=True
        )
        loss = model.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        one = getattr(model.loss, "mlm_loss", model.loss)
        counted = target_mask(masks, one.combine_time_steps, one.mask_threshold, encoded_len, one.target_shift)
        targets += float(counted.sum()) / size.batch
        left, _ = model.current_att_context
        audit = audit_masks(masks, lengths, left, model.encoder.subsampling_factor)
        of_context = blind[str(model.current_att_context)]
        of_context[0] += int(audit.blind_targets.sum())
        of_context[1] += size.batch
        if (step + 1) % every == 0 or step + 1 == size.steps:
            figures = evaluate(model, held_out, held_lengths, held_masks)
            history.append({"step": step + 1, "targets": targets, **figures})
            state = {
                "model": model.state_dict(),
                "sampler": model.context_sampler.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
                "order": order.getstate(),
                "step": step + 1,
                "targets": targets,
                "history": history,
                "blind": blind,
            }
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, checkpoint.with_suffix(".partial"))
            os.replace(checkpoint.with_suffix(".partial"), checkpoint)
            line = f"{arm.name} {seed}: step {step + 1} of {size.steps}, train {float(loss):.3f}, "
            print(line + ", ".join(f"{c} {figures[str(c)]['loss']:.3f}" for c in CONTEXTS), flush=True)

    result = {"history": history, "steps": size.steps}
    result["blind"] = {context: count / max(1, utterances) for context, (count, utterances) in blind.items()}
    fitted_on, tested_on = read_split(corpus.train_manifest, PROBE_MINUTES), read_split(corpus.validation_manifest)

    def probed(model, baselines: bool = False) -> dict[str, dict[str, float]]:
        contexts = [list(context) for context in CONTEXTS]
        rows = probe(model, fitted_on, tested_on, contexts, online=False, baselines=baselines, progress=False)
        return {row["frames"]: {"all_layers": row["offline"], "last_layer": row["last_layer"]} for row in rows}

    result["probe"] = probed(model.cpu(), baselines=arm is ARMS[0])
    if arm is ARMS[0]:
        result["untrained_probe"] = probed(build_model(arm, size, seed))
    _write(run_folder(out, arm.name, seed) / "result.json", json.dumps(result))
    checkpoint.unlink()


def run_folder(out: Path, arm: str, seed: int) -> Path:
    return out / "runs" / f"{arm.replace(', ', '-').replace(' ', '_')}-{seed}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


# --------------------------------------------------------------------------------------------------------- all of them


def results_of(out: Path, arms: list[str], seeds: int) -> dict[str, dict[int, dict]]:
    """What is finished, by arm and seed."""
    found = {
        arm: {
            seed: json.loads(path.read_text(encoding="utf-8"))
            for seed in range(seeds)
            if (path := run_folder(out, arm, seed) / "result.json").is_file()
        }
        for arm in arms
    }
    return {arm: by_seed for arm, by_seed in found.items() if by_seed}


def write_results(results: dict[str, dict[int, dict]], size: str, out: Path) -> None:
    """Writes the tables and all figures of what is finished."""
    lines = [
        json.dumps({"arm": arm, "seed": seed, "size": size, **run})
        for arm, runs in results.items()
        for seed, run in runs.items()
    ]
    _write(out / "ablation.jsonl", "\n".join(lines) + "\n")
    _write(out / "ablation.md", tables(results, SIZES[size]) + "\n")


def read_results(file: Path) -> tuple[dict[str, dict[int, dict]], str]:
    """The results, by arm and seed, and the size that `write_results` wrote into an `ablation.jsonl`."""
    runs = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    results = {}
    for run in runs:
        results.setdefault(run["arm"], {})[run["seed"]] = run
    return results, runs[0]["size"]


def tables(results: dict[str, dict[int, dict]], size: Size) -> str:
    """The report on what is finished, in Markdown."""
    return report(
        results,
        contexts=[str(context) for context in CONTEXTS],
        meanings={arm.name: arm.meaning for arm in ARMS},
        compared_with={arm.name: arm.compared_with for arm in ARMS},
        base=ARMS[0].name,
        other_tokens={arm.name for arm in ARMS if "quantizer.normalize" in arm.config},
        equal_targets={"tail": "sliding, sparser", "random": "sliding, sparser"},
        setting=(
            f"{size.steps} steps of {size.batch} crops of {size.crop_seconds:g} s from {size.minutes:g} minutes of "
            f"speech; evaluated on {VALIDATION_MINUTES:g} minutes of voices not heard in training, which say the same "
            f"sentences, {MASK_DRAWS} masks of the base arm on each utterance. Masks: blocks of "
            f"{BASE['masking.block_size']} feature frames at {BASE['masking.mask_prob']}; `denser`: "
            f"{DENSER['masking.block_size']} at {DENSER['masking.mask_prob']}."
        ),
    )


def arm_named(name: str) -> Arm:
    return next(arm for arm in ARMS if arm.name == name)


def main() -> None:
    arguments = parse_arguments()
    if arguments.tables:
        results, size = read_results(arguments.tables)
        print(tables(results, SIZES[size]))
        return
    size, out = SIZES[arguments.size], arguments.out.resolve() / arguments.size
    if arguments.train:
        arm, seed = arguments.train
        train(arm_named(arm), int(seed), size, out, torch.device(arguments.device))
        return
    if arguments.seeds < 2:
        raise SystemExit(f"--seeds is {arguments.seeds}, but must be at least 2")

    from demo_corpus import make_corpus
    from tqdm import tqdm

    make_corpus(out / "corpus", minutes=size.minutes, validation_minutes=VALIDATION_MINUTES)
    # Seed by seed, so that all arms can be compared early.
    wanted = [(arm, seed) for seed in range(arguments.seeds) for arm in arguments.arms]
    missing = [(arm, seed) for arm, seed in wanted if not (run_folder(out, arm, seed) / "result.json").is_file()]

    jobs = arguments.jobs or (os.cpu_count() if arguments.device == "cpu" else 2)
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(wanted), unit="training") as bar:

        def job(arm: str, seed: int) -> None:
            """Runs a training in a process of its own, and shows its lines."""
            command = [sys.executable, __file__, "--out", str(out.parent), "--size", arguments.size]
            command += ["--device", arguments.device, "--train", arm, str(seed)]
            folder = run_folder(out, arm, seed)
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / "log", "a", encoding="utf-8") as log:
                process = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **JOB_ENVIRONMENT}
                )
                for line in process.stdout:
                    log.write(line)
                    log.flush()
                    bar.set_postfix_str(line.strip())
            if process.wait():
                raise RuntimeError(f"the training of {arm}, seed {seed}, failed; see {folder / 'log'}")

        bar.update(len(wanted) - len(missing))
        try:
            for future in as_completed([pool.submit(job, *one) for one in missing]):
                future.result()
                bar.update()
                write_results(results_of(out, arguments.arms, arguments.seeds), arguments.size, out)
        except BaseException:  # Ctrl-C too, which reaches the trainings by themselves
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    results = results_of(out, arguments.arms, arguments.seeds)
    write_results(results, arguments.size, out)
    print(tables(results, size))


if __name__ == "__main__":
    main()
