"""The arms of the ablation."""

from ablation_parts.arms import ARMS, BASE_ARM, arm_named


def test_arms_differ_from_the_one_they_are_compared_with_in_one_thing():
    for arm in ARMS:
        other = arm_named(arm.compared_with)
        assert other.compared_with == other.name
        changed = {
            key for key in arm.config.keys() | other.config.keys() if arm.config.get(key) != other.config.get(key)
        }
        # Literal sync is a tail whose context is counted in other units.
        assert len(changed - {"masking.subsampling_factor"}) == (0 if arm is other else 1), arm.name


def test_arms_are_found_by_their_names():
    assert [arm_named(arm.name) for arm in ARMS] == list(ARMS) and BASE_ARM.config == {}
