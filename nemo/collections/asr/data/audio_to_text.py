"""Buckets with batch sizes of their own, for every data set that can be put into them."""

from typing import Any

from nemo.collections.asr.data.audio_to_text import BucketingDataset as NemoBucketingDataset


class BucketingDataset(NemoBucketingDataset):
    """As NeMo's, but a batch is collated by the data set in the bucket; NeMo's knows those with transcripts alone."""

    def _collate_fn(self, batch: list[list[Any]]) -> Any:
        return self.wrapped_dataset._collate_fn(batch[0])
