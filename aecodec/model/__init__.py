"""The network: analysis and synthesis transforms, hyperprior, context, weights."""
