"""The tables of the evaluation, made of what its trainings have left."""


def tables(results, size):
    return ""
