"""What the scripts of this folder are made of. Each script is a command on it; none imports another.

==================  ===============================================================================================
`command`           errors, exit codes, contexts on the command line, files that are written whole
`utterances`        `Utterance` and the reader of manifests
`audio`             the reader of audio files
`restoring`         models from `.nemo` files
`corpus`            the synthetic corpus: plan, speech, noise, folder
`recipe`, `masks`   what a model or a training config says of contexts and masking
`report`            tables and pictures of contexts and masks
`features`          encoder frames of files
`live`              encoder frames of streams
`probe`             how well phones can be read off the frames
`demo`              pretraining and evaluation of the demo
`cpu_training`      the environment of processes that train on a CPU
==================  ===============================================================================================

`command`, `utterances`, `audio` and `corpus` do not import NeMo, which takes a quarter of a minute.
"""
