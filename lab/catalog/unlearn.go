package catalog

func unlearn() []Paper {
	return []Paper{
		{
			Number: 43, Slug: "wagle", API: "unlearn.WAGLE", Verb: "tare unlearn",
			Title: "WAGLE: Strategic Weight Attribution for Effective and Modular Unlearning in Large Language Models",
			Claim: "Updating only the weights whose influence on forgetting outweighs their influence on what must be kept improves a range of unlearning methods, from gradient difference to preference optimisation, and preserves the other tasks.",
			Plan:  Plan{Own: "Facts about invented authors, of which 1, 5 or 10 % are to be forgotten, against a model trained without them: forget quality, membership inference, and use on what is kept and on general text.", Baselines: "updating all weights, random masks, masks by magnitude, by Wanda's score and by gradient"},
		},
	}
}
