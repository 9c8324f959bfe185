"""The parts of `ablation.py`: arms, data and models, training, evaluation, results, tables, and the jobs that run."""
