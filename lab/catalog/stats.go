package catalog

func statistics() []Paper {
	return []Paper{
		{
			Number: 23, Slug: "presto", State: Runs, API: "stats.Presto", Verb: "tare fit",
			Title: "Predicting Rare Events by Shrinking Towards Proportional Odds",
			Claim: "Ordinal regression whose weights may differ between neighbouring transitions, at an L1 price for each difference, borrows from common outcomes and estimates the probability of a rare one better than logistic regression on the rare class or proportional odds.",
			Plan:  Plan{Own: "The paper's generated data, with sparse and with dense differences, and real ordinal data, over a sweep of rarity; squared error of the rare probability.", Baselines: "logistic regression on the rare class, proportional odds"},
		},
		{
			Number: 40, Slug: "compositional-partial-correlation", State: Runs, API: "stats.PartialCorrelation", Verb: "tare fit",
			Title: "Partial Correlations in Compositional Data Analysis",
			Claim: "For parts of a whole, residuals of log-ratios do not depend on the reference once it is controlled for, so that partial correlations are defined between the parts themselves, properly scaled, and can be negative.",
			Plan:  Plan{Own: "Agreement over all references to 1e-10, and against log abundances with the total controlled for; graphs for glass oxides and soils.", Baselines: "proportionality and plain correlation of log-ratios, partial correlation after normalising"},
		},
		{
			Number: 55, Slug: "arphmm", State: Runs, API: "stats.ARPHMM", Verb: "tare fit",
			Title: "Autoregressive Hidden Markov Models with partial knowledge on latent space applied to aero-engines prognostics",
			Claim: "Weighting the states' likelihoods by prior plausibility brings partial knowledge of the hidden states into an autoregressive hidden Markov model without losing the convergence of its fitting, and is of use for predicting how long engines will last.",
			Plan:  Plan{Own: "A documented simulator of degrading engines, and the user's C-MAPSS files where present: asymmetric score, squared error, and share of predictions at most 13 cycles early and 10 late.", Baselines: "the same model without prior knowledge, a hidden Markov model without autoregression, similarity of histories"},
		},
	}
}
