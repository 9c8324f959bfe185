"""The order of tar files follows the global random state."""

import pickle
import random

import webdataset

from nemo.collections.asr.data.tar_order import shuffle_by_global_state


def test_a_seed_gives_the_order_again():
    pipeline = webdataset.DataPipeline(
        webdataset.SimpleShardList([f"{n}.tar" for n in range(50)]), webdataset.shuffle(9)
    )
    shuffle_by_global_state(pipeline)
    pipeline = pickle.loads(pickle.dumps(pipeline))

    def order(seed: int) -> list[str]:
        random.seed(seed)
        return [shard["url"] for shard in pipeline]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == sorted(f"{n}.tar" for n in range(50))
