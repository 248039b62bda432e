"""The jobs: what each command of privet does, from data to a finished folder."""
