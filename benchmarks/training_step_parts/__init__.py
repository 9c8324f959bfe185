"""The parts of `training_step.py`; none but the table imports this project's NeMo, since one side runs without it."""
