"""The whole way in a few minutes: speech, pretraining, a `.nemo` file, every preset, a live stream, and a table.

    python demo.py --out demo

Synthesises a small corpus, pretrains the model of `nest_streaming_demo.yaml` on it with four attention contexts,
restores the file that training saved, evaluates it at every preset, streams an utterance, and writes `results.md`,
`results.json` and pictures into the folder. Run again, it goes on from what is already there.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import soundfile
import torch
from context_report import draw_contexts
from demo_corpus import Corpus, make_corpus
from omegaconf import OmegaConf

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS
from nemo.collections.asr.parts.utils.streaming_utils import EncoderStream, dynamic_context

HERE = Path(__file__).resolve().parent


def pretrain(corpus: Corpus, out: Path, steps: int) -> Path:
    """Trains with the pretraining script, which goes on from its last checkpoint, and returns the `.nemo` file."""
    options = {
        "model.train_ds.manifest_filepath": corpus.train_manifest,
        "model.validation_ds.manifest_filepath": corpus.validation_manifest,
        "trainer.max_steps": steps,
        "exp_manager.exp_dir": out,
    }
    command = [sys.executable, HERE / "masked_token_pred_pretrain.py", "--config-name", "nest_streaming_demo"]
    subprocess.run([*command, *(f"{key}={value}" for key, value in options.items())], check=True)
    return max(out.glob("*/checkpoints/*.nemo"), key=lambda file: file.stat().st_mtime)


def evaluate(model: EncDecDenoiseMaskedTokenPredModel, corpus: Corpus) -> dict[str, dict[str, float]]:
    """Loss (nats) and accuracy of masked prediction on the validation speech, by preset, on the same masks."""
    model.validation_contexts = list(CONTEXT_PRESETS.values())
    data = OmegaConf.create(model.cfg.validation_ds)
    data.manifest_filepath, data.noise_manifest = str(corpus.validation_manifest), None
    model.setup_validation_data(data)
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    metrics = trainer.validate(model, dataloaders=model._validation_dl, verbose=False)[0]
    return {
        name: {"loss": metrics[f"val_loss_{left}_{right}"], "accuracy": metrics[f"val_acc_{left}_{right}"]}
        for name, (left, right) in CONTEXT_PRESETS.items()
    }


@torch.inference_mode()
def token_statistics(model: EncDecDenoiseMaskedTokenPredModel) -> dict[str, float]:
    """What could be said of the validation's tokens without listening: entropy (nats), perplexity, largest share."""
    counts = torch.zeros(model.cfg.num_classes)
    for batch in model._validation_dl:
        features, lengths = model.preprocessor(input_signal=batch.audio, length=batch.audio_len)
        _, tokens = model.quantizer(input_signal=features, input_lengths=lengths)
        for utterance, length in zip(tokens[..., 0], lengths // model.encoder.subsampling_factor, strict=True):
            counts += torch.bincount(utterance[:length], minlength=len(counts))
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * shares.log()).sum())
    return {"entropy": entropy, "perplexity": math.exp(entropy), "largest_share": float(shares.max())}


@torch.inference_mode()
def stream(model: EncDecDenoiseMaskedTokenPredModel, wav: Path, context: str, chunk_seconds: float = 0.1) -> dict:
    """Pushes a file through an `EncoderStream` in small pieces and compares it with the encoder run offline."""
    samples, rate = soundfile.read(wav, dtype="float32")
    audio = torch.from_numpy(samples)
    with EncoderStream(model, context) as live:
        pieces = [live.push(piece)[0] for piece in audio.split(int(chunk_seconds * rate))]
        frames = torch.cat([*pieces, live.finish()[0]], dim=2)
    with dynamic_context(model.eval(), context):
        features, length = model.preprocessor(input_signal=audio[None], length=torch.tensor([len(audio)]))
        offline, offline_length = model.encoder(audio_signal=features, length=length)
    assert frames.shape[2] == offline_length[0], "the stream gave another number of frames than the encoder offline"
    difference = float((frames - offline[:, :, : offline_length[0]]).abs().max())
    return {"context": context, "seconds": len(audio) / rate, "frames": frames.shape[2], "difference": difference}


def results_table(results: dict[str, dict[str, float]], tokens: dict[str, float], frame_seconds: float) -> str:
    """Markdown: a row for each preset, then what the rows are to be compared with."""
    lines = [
        "| context | attention | left | validation loss | masked-token accuracy |",
        "|---|---|---|---|---|",
    ]
    for name, (left, right) in CONTEXT_PRESETS.items():
        seconds = "unlimited" if left < 0 else f"{left * frame_seconds:.1f} s"
        row = results[name]
        lines.append(f"| {name} | [{left}, {right}] | {seconds} | {row['loss']:.3f} | {100 * row['accuracy']:.1f} % |")
    lines += [
        "",
        f"The same tokens by their frequency alone: entropy {tokens['entropy']:.3f} nats (perplexity "
        f"{tokens['perplexity']:.1f}), most frequent token {100 * tokens['largest_share']:.1f} %.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Runs the demo and prints its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for corpus, experiment and results")
    parser.add_argument("--steps", type=int, default=800, help="training steps of 4 utterances")
    parser.add_argument("--minutes", type=float, default=40.0, help="minutes of training speech")
    arguments = parser.parse_args()
    out = arguments.out.resolve()

    corpus = make_corpus(out / "corpus", minutes=arguments.minutes)
    file = pretrain(corpus, out / "experiment", arguments.steps)
    model = EncDecDenoiseMaskedTokenPredModel.restore_from(str(file), map_location="cpu").eval()
    results, tokens = evaluate(model, corpus), token_statistics(model)
    wav = sorted((corpus.folder / "validation").glob("*.wav"))[0]
    live = stream(model, wav, "low")
    pictures = draw_contexts(model, wav, out / "pictures")

    frame_seconds = model.cfg.preprocessor.window_stride * model.encoder.subsampling_factor
    table = results_table(results, tokens, frame_seconds)
    (out / "results.md").write_text(table + "\n")
    (out / "results.json").write_text(json.dumps({"presets": results, "tokens": tokens, "stream": live}, indent=2))
    print(f"\n{table}\n")
    print(
        f"Streamed {live['seconds']:.1f} s at '{live['context']}': {live['frames']} frames, "
        f"at most {live['difference']:.1e} from the encoder run offline.\n"
    )
    print(f"Model: {file}\nResults: {out / 'results.md'}\nPictures: {', '.join(map(str, pictures))}")
    print(f"Training curves: tensorboard --logdir {out / 'experiment'}")


if __name__ == "__main__":
    main()
