package lab

// lift is the experiment of LIFT (Liu et al. 2025): training the entries that are
// largest in a low-rank approximation of each weight, as many as LoRA trains, shall
// answer more problems right than full fine-tuning and LoRA, forget less of the source
// domain than both, and hold no more optimizer state than LoRA. Sparse tuning of the
// largest and of random entries tells what the low rank adds; S²FT is a further arm. A
// run is short, so that the choice is made anew every 25 steps. What choosing takes
// counts in the seconds and stands among the further figures.
func lift() Experiment {
	return Experiment{
		Slug:   "lift",
		Claim:  "Training the principal entries of each weight beats full fine-tuning at LoRA's memory, and forgets less.",
		Figure: opticksLoss,
		Arms: arms(
			tuneArm{"lift", Method, "lift update_interval=25", 8},
			tuneArm{"full", Baseline, "full", 0},
			tuneArm{"lora", Baseline, "lora", 8},
			tuneArm{"largest entries", Baseline, "sparse", 8},
			tuneArm{"random entries", Baseline, "sparse choice=random", 8},
			tuneArm{"s2ft", Baseline, "s2ft", 8},
		),
		Seeds: 5, QuickSeeds: 2,
		Rule: All(
			BeatsIn(OfExtra(exactAnswer), "lift", "full"), BeatsIn(OfExtra(exactAnswer), "lift", "lora"),
			Beats("lift", "full"), Beats("lift", "largest entries"), Beats("lift", "random entries"),
			BeatsIn(OfExtra(sourceLoss), "lift", "full"), BeatsIn(OfExtra(sourceLoss), "lift", "lora"),
			NotWorseIn(OfPeak(Optimizer), "lift", "lora"),
		),
	}
}
