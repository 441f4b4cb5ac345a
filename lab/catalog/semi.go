package catalog

func semi() []Paper {
	return []Paper{
		{
			Number: 8, Slug: "shrinkmatch", API: "semi.ShrinkMatch", Verb: "tare fit",
			Title: "Shrinking Class Space for Enhanced Certainty in Semi-Supervised Learning",
			Claim: "Taking the classes that a sample is confused with out of consideration makes an uncertain sample certain, so that it can be learned from as well; the whole unlabelled set is used instead of the confident part, with better accuracy on the usual benchmarks.",
			Plan:  Plan{Own: "MNIST and Fashion-MNIST with 1, 4 and 25 labels a class: test error and the share of unlabelled samples in use.", Baselines: "labels only, pseudo-labels, FixMatch, FlexMatch"},
		},
		{
			Number: 45, Slug: "self-distillation", API: "semi.SelfDistillation", Verb: "tare fit",
			Title: "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by Self-Distillation",
			Claim: "In kernel regression every step of self-distillation follows in closed form from the first fit, endless steps equal one fit with stronger regularisation as long as true targets keep some weight, and the best weight at each step has a closed form that replaces a grid search for networks.",
			Plan:  Plan{Own: "Regression on generated and real data, and a residual network that learns Fashion-MNIST from itself: the estimated weight against the grid's, in accuracy and in cost.", Baselines: "fixed weights, grid search, no distillation"},
		},
		{
			Number: 59, Slug: "adawac", API: "semi.AdaWAC", Verb: "tare fit",
			Title: "Adaptively Weighted Data Augmentation Consistency Regularization for Robust Optimization under Concept Shift",
			Claim: "A trained weight on each sample moves densely labelled images to the supervised loss and sparsely labelled ones to consistency under augmentation, which segments better, from fewer samples and under concept shift, than cutting the sparse ones down.",
			Plan:  Plan{Own: "A small U-Net segments digits on textured ground, in volumes whose end slices are sparse or empty: Dice overlap and Hausdorff distance on full and thinned data.", Baselines: "plain training, truncated loss, importance weights, consistency only"},
		},
	}
}
