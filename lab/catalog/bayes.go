package catalog

func bayes() []Paper {
	return []Paper{
		{
			Number: 20, Slug: "universality-lens", State: Runs, API: "bayes.Mixture", Verb: "tare fit",
			Title: "The Universality Lens: Why Even Highly Over-Parametrized Models Learn Well",
			Claim: "The regret of a Bayesian mixture depends on the prior weight of the hypotheses close to the truth, not on how many there are, so that simple truths are learned from few samples inside an enormous class.",
			Plan:  Plan{Own: "Exact mixtures over trees, grids and small networks: measured regret against the bound, with many complex hypotheses added; then ensembles drawn by Langevin dynamics on MNIST.", Baselines: "the bound itself, maximum likelihood, the single trained network"},
		},
		{
			Number: 63, Slug: "programmable-vi", State: Runs, API: "bayes/vi.Program", Verb: "tare reproduce",
			Title: "Probabilistic Programming with Programmable Variational Inference",
			Claim: "Writing variational objectives as programs and composing gradient strategies choice by choice gives unbiased estimators for an open set of objectives, with minimal overhead against code written by hand.",
			Plan:  Plan{Own: "A variational autoencoder on MNIST: seconds a step and bound reached, with and without importance weights, and the variance of the gradient by strategy, for Gaussian latents and for bits.", Baselines: "the same model and gradient written by hand, plain and centred score-function estimators"},
		},
	}
}
