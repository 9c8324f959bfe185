"""What benchmarks that train share: features and crops, jobs that go on where they were, results, figures."""
