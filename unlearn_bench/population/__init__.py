"""What takes many models: distances of outputs and attacks over all seeds. Free of torch and HTML.

Everything here is computed from the scores that runs leave behind; no model is loaded again. A
score is phi = z_y - logsumexp(z without y), the logit of the probability of the true class, in
float64: neither right and wrong, nor a probability that saturates.
"""
