"""The parts of `objective.py`: arms, data, models, pretraining, probes, fine-tuning, and the tables."""
