"""Readouts of feature maps and tokens: where in the image, which features, routed how; trained by the one trainer."""
