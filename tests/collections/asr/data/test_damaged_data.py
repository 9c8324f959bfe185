"""Audio and manifests that are damaged, or not as a model needs them."""

from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet, Recording
from small_corpus import RATE, entries_of, speech_like, tar_up, utterances, write_audio, write_manifest

from nemo.collections.asr.data.audio_files import read_audio


@pytest.fixture(scope="module")
def damaged(corpus, tmp_path_factory) -> dict[str, Path]:
    """Manifests: `some` has 5 bad files among the 7 utterances, `none` has bad files alone."""
    folder = tmp_path_factory.mktemp("damaged")
    with_nan = speech_like(0, 1.0)
    with_nan[77] = np.nan
    (folder / "text.wav").write_text("no audio")
    cut = write_audio(folder / "whole.flac", speech_like(0, 1.0)).read_bytes()
    (folder / "cut.flac").write_bytes(cut[:3000])
    files = [
        write_audio(folder / "empty.wav", np.zeros(0)),
        write_audio(folder / "nan.wav", with_nan, subtype="FLOAT"),
        folder / "text.wav",
        folder / "missing.wav",
        folder / "cut.flac",
    ]
    bad = [{"audio_filepath": str(file), "duration": 1.0} for file in files]
    good = entries_of(corpus["speech"])
    some = [*bad[:3], *good[:3], bad[3], *good[3:], bad[4]]
    return {
        "some": write_manifest(folder / "some.json", some),
        "none": write_manifest(folder / "none.json", bad),
    }


class TestUnreadableUtterances:
    """Files that cannot be used are named once each, counted, and left out."""

    @pytest.mark.parametrize("workers", [0, 2])
    def test_they_are_named_once_in_all_workers_and_epochs(self, loader, known, damaged, workers, said_by_workers):
        loaded = loader("plain", manifest_filepath=str(damaged["some"]), num_workers=workers, batch_size=2)
        for _ in range(2):
            heard = sorted(len(audio) for audio, _, _ in utterances(loaded))
            assert set(heard) == {16000, 25600, 19200, 27200, 17600, 24000, 20800}
            assert len(heard) == 8, "the second batch holds bad files alone; the next good utterance stands for them"
        said = said_by_workers.read_text()
        for name in ("empty.wav", "nan.wav", "text.wav", "missing.wav", "cut.flac"):
            assert said.count(f"{name} cannot be used and is left out") == 1
        assert "(5 files left out so far)" in said

    def test_every_batch_has_an_utterance_so_that_ranks_stay_together(self, loader, damaged):
        batches = list(loader("plain", manifest_filepath=str(damaged["some"]), batch_size=1))
        assert len(batches) == 12 and all(len(batch.audio) == 1 for batch in batches)

    def test_an_option_stops_at_the_first(self, loader, damaged):
        loaded = loader("plain", manifest_filepath=str(damaged["some"]), unreadable_audio="raise")
        with pytest.raises(RuntimeError, match="empty.wav cannot be used: it has no samples"):
            list(loaded)

    def test_it_is_an_error_if_nothing_can_be_read(self, loader, damaged):
        with pytest.raises(RuntimeError, match="None of the 5 utterances can be read; the first is .*empty.wav"):
            list(loader("plain", manifest_filepath=str(damaged["none"])))

    def test_tar_files_are_read_on(self, loader, known, damaged, tmp_path, warnings_of_nemo):
        entries = [entry for entry in entries_of(damaged["some"]) if "missing" not in entry["audio_filepath"]]
        tarred = tar_up(write_manifest(tmp_path / "some.json", entries), tmp_path / "tar")
        heard = {len(audio) for audio, _, _ in utterances(loader("tarred", **tarred))}
        assert len(heard) == 7
        assert sum("cannot be used and is left out" in said for said in warnings_of_nemo) == 4

    def test_cuts_are_left_out(self, loader, known, corpus, tmp_path, warnings_of_nemo):
        entries = entries_of(corpus["speech"])
        cuts = [Recording.from_file(entry["audio_filepath"]).to_cut() for entry in entries]
        gone = Recording.from_file(write_audio(tmp_path / "gone.wav", speech_like(0, 1.0))).to_cut()
        CutSet.from_cuts([*cuts, gone]).to_file(tmp_path / "cuts.jsonl.gz")
        (tmp_path / "gone.wav").unlink()
        loaded = loader("lhotse cuts", cuts_path=str(tmp_path / "cuts.jsonl.gz"), batch_size=1)
        for _ in range(2):
            heard = [len(audio) for audio, _, _ in utterances(loaded)]
            assert heard == [*[len(known[length]) for length in heard[:7]], heard[6]], "the last one stands for it"
        (warning,) = [said for said in warnings_of_nemo if "left out" in said]
        assert "cut gone cannot be used and is left out: AudioLoadingError: Reading audio from" in warning


@pytest.fixture(scope="module")
def stereo(tmp_path_factory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("stereo")
    samples = np.stack([speech_like(0, 1.2), speech_like(1, 1.2)], axis=1)
    files = [write_audio(folder / f"stereo{index}.wav", samples, subtype="FLOAT") for index in range(3)]
    manifest = write_manifest(folder / "a.json", [{"audio_filepath": str(f), "duration": 1.2} for f in files])
    CutSet.from_cuts(Recording.from_file(file).to_cut() for file in files).to_file(folder / "cuts.jsonl.gz")
    return {
        "samples": samples,
        "plain": {"manifest_filepath": str(manifest)},
        "concat": {"manifest_filepath": [str(manifest), str(manifest)]},
        "tarred": tar_up(manifest, folder / "tar"),
        "lhotse cuts": {"cuts_path": str(folder / "cuts.jsonl.gz")},
    }


class TestChannels:
    """Several channels need an option that says which is meant."""

    @pytest.mark.parametrize("kind", ["plain", "concat", "tarred", "lhotse cuts"])
    def test_an_error_names_the_file_and_the_option(self, loader, stereo, kind):
        with pytest.raises(ValueError, match="channel_selector must be .* for .*stereo0.*, which has 2 channels; got"):
            list(loader(kind, **stereo[kind]))

    @pytest.mark.parametrize("kind", ["plain", "concat", "tarred", "lhotse cuts"])
    def test_the_option_selects_one(self, loader, stereo, kind):
        for audio, _, _ in utterances(loader(kind, **stereo[kind], channel_selector=1)):
            np.testing.assert_allclose(audio, stereo["samples"][:, 1], atol=1e-6)

    @pytest.mark.parametrize("kind", ["plain", "concat", "tarred", "lhotse cuts"])
    def test_the_option_averages(self, loader, stereo, kind):
        for audio, _, _ in utterances(loader(kind, **stereo[kind], channel_selector="average")):
            np.testing.assert_allclose(audio, stereo["samples"].mean(axis=1), atol=1e-6)


class TestManifests:
    """What is read of a manifest, and how its faults are told."""

    def test_offset_and_duration_name_a_part(self, loader, corpus, known, tmp_path):
        (entry,) = entries_of(corpus["speech"])[3:4]
        parts = [{**entry, "offset": 0.25, "duration": 1.25}, {**entry, "offset": 0.1, "duration": 1.125}]
        manifest = write_manifest(tmp_path / "parts.json", parts)
        first, second = (audio for audio, _, _ in utterances(loader("plain", manifest_filepath=str(manifest))))
        np.testing.assert_array_equal(first, known[27200][4000:24000])
        np.testing.assert_array_equal(second, known[27200][1600:19600])
        tarred = tar_up(write_manifest(tmp_path / "one.json", parts[:1]), tmp_path / "tar")
        ((audio, _, _),) = utterances(loader("tarred", **tarred))
        np.testing.assert_array_equal(audio, first)

    def test_short_utterances_are_repeated_up_to_a_second(self, loader, tmp_path):
        file = write_audio(tmp_path / "short.wav", speech_like(0, 0.3))
        manifest = write_manifest(tmp_path / "short.json", [{"audio_filepath": str(file), "duration": 0.3}])
        ((audio, _, _),) = utterances(loader("plain", manifest_filepath=str(manifest)))
        np.testing.assert_array_equal(audio, np.tile(read_audio(file, RATE), 4)[:RATE])

    def test_how_many_utterances_are_too_short_or_too_long_is_one_line_of_the_log(
        self, loader, corpus, warnings_of_nemo
    ):
        loaded = loader("plain", min_duration=1.15, max_duration=1.55)
        assert len(list(utterances(loaded))) == 3
        (line,) = [said for said in warnings_of_nemo if "utterances are used" in said]
        assert line == (
            "3 of 7 utterances are used; 2 are shorter than min_duration = 1.15 s, "
            "2 are longer than max_duration = 1.55 s."
        )

    def test_a_byte_order_mark_is_no_part_of_a_manifest(self, loader, corpus, tmp_path):
        manifest = tmp_path / "marked.json"
        manifest.write_bytes("\ufeff".encode() + corpus["speech"].read_bytes())
        assert len(list(utterances(loader("plain", manifest_filepath=str(manifest))))) == 7

    @pytest.mark.parametrize(
        "line",
        [
            '{"audio_filepath": "a.wav", "duration": ',
            '{"duration": 1.0}',
            "[]",
            '{"audio_filepath": "a", "duration": "1"}',
        ],
    )
    def test_a_bad_line_is_named_by_file_and_number(self, loader, corpus, tmp_path, line):
        manifest = tmp_path / "bad.json"
        manifest.write_text(corpus["speech"].read_text() + "\n" + line + "\n")
        with pytest.raises(ValueError, match=r"bad\.json, line 9 must be an entry of a manifest; got "):
            loader("plain", manifest_filepath=str(manifest))

    def test_what_is_no_manifest_is_named(self, loader, corpus):
        (entry, *_) = entries_of(corpus["speech"])
        with pytest.raises(ValueError, match="speech0.wav must be UTF-8 text, a JSON object in each line"):
            loader("plain", manifest_filepath=entry["audio_filepath"])
