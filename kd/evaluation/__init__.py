"""One run on its test images: predictions, report, evaluated explanations."""
