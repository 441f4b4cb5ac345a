package lab

// eva is the experiment of EVA (Paischer et al. 2024): LoRA that starts from the
// directions of the layers' own inputs, with the ranks moved to where they explain most
// variance, shall learn faster than LoRA from a random start, seen in the mean training
// loss of the first third of the steps, and end lower on held-out text than LoRA, PiSSA
// and AdaLoRA. All have the same rank on average. The time for the look at the inputs
// counts; even ranks, which leave the start alone to judge, are a further arm. The
// averages over tasks of the paper's models are out of reach here.
func eva() Experiment {
	return Experiment{
		Slug:   "eva",
		Claim:  "Starting from the directions of the inputs, with ranks where they explain most, LoRA learns faster and ends better.",
		Figure: opticksLoss,
		Arms: append(arms(
			tuneArm{"eva", Method, "eva", 8},
			tuneArm{"lora", Baseline, "lora", 8},
			tuneArm{"pissa", Baseline, "pissa", 8},
			tuneArm{"adalora", Baseline, "adalora", 8},
		), textArms(
			tuneArm{"eva, even ranks", Method, "eva rho=1", 8},
		)...),
		Seeds: 5, QuickSeeds: 2,
		Rule: All(
			Beats("eva", "lora"), Beats("eva", "pissa"), Beats("eva", "adalora"),
			BeatsIn(OfExtra(earlyLoss), "eva", "lora"),
		),
	}
}
