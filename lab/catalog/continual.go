package catalog

func continual() []Paper {
	return []Paper{
		{
			Number: 16, Slug: "dkvb", API: "continual.DKVB", Verb: "tare continue",
			Title: "Discrete Key-Value Bottleneck",
			Claim: "Fetching a few learned values by their nearest fixed keys, on top of a frozen encoder, makes updates local, and so reduces forgetting when classes arrive one after another, with no task boundaries and over many encoders.",
			Plan:  Plan{Own: "MNIST and Fashion-MNIST in five steps of two classes, one pass each, on an encoder that never saw them; accuracy over all classes at the end, for several sizes of codebook.", Baselines: "linear probe, perceptron head, elastic weight consolidation"},
		},
		{
			Number: 17, Slug: "lcia", API: "continual.LCIA", Verb: "tare continue",
			Title: "Large Continual Instruction Assistant",
			Claim: "A moving average of the parameters whose weight is worked out at each step from gradients and parameters balances learning and keeping better than a fixed one, and similar instructions share parameters while new ones get their own.",
			Plan:  Plan{Own: "A sequence of instruction tasks on the bundled base; average score, forgetting, and score on the newest task.", Baselines: "LoRA in sequence, moving averages with fixed weights, elastic weight consolidation, replay"},
		},
		{
			Number: 19, Slug: "data-mixing-agent", API: "continual.MixingAgent", Verb: "tare continue",
			Title: "Data Mixing Agent: Learning to Re-weight Domains for Continual Pre-training",
			Claim: "An agent taught by reinforcement on many mixing trajectories re-weights domains during continued pretraining, balances source and target better than strong baselines, carries over to unseen sources, models and domain spaces, and needs less source data.",
			Plan:  Plan{Own: "Literary genres as sources and arithmetic or Go source code as target; the agent learns on a model of half a million parameters and steers models of 3 and 10 million. Figure: mean of source and target improvement.", Baselines: "target only, even mixture, fixed ratios, regression on proxies (RegMix), excess loss (DoReMi)"},
		},
		{
			Number: 41, Slug: "muscle", API: "continual.Muscle", Verb: "tare continue",
			Title: "MUSCLE: A Model Update Strategy for Compatible LLM Evolution",
			Claim: "When the base model is renewed, an adapter distilled from the old version where the new one errs, and from the new one elsewhere, cuts the answers that used to be right and became wrong by up to 40 % from Llama 1 to Llama 2.",
			Plan:  Plan{Own: "The bundled base is replaced by a longer or wider trained one; share of negative flips and accuracy on mail sorting, arithmetic and multiple choice.", Baselines: "plain update, distilling everything, ensemble of old and new"},
		},
		{
			Number: 48, Slug: "mos", API: "continual.MOS", Verb: "tare continue",
			Title: "MOS: Model Surgery for Pre-Trained Model-Based Class-Incremental Learning",
			Claim: "Merging each new task's adapter with those before it, and letting the model correct its own choice of adapter at test time without training, gives the best class-incremental accuracy on seven benchmarks.",
			Plan:  Plan{Own: "A vision transformer pretrained on other classes, then Fashion-MNIST class by class; accuracy after each task and on average.", Baselines: "L2P, DualPrompt, class prototypes, prototypes on adapted and original features"},
		},
	}
}
