"""The study: data, models, training, runs, reports; the demonstration is its smallest."""
