package lab

// sorsa is the experiment of SORSA (Cao and Song 2024): at LoRA's rank, principal
// singular values and vectors that are held near orthonormal shall answer more problems
// right and end lower on held-out text than LoRA, PiSSA and full fine-tuning. γ is the
// regulariser's own learning rate: the default, none, and ten times the default are
// arms, and the deviation from orthonormality that each ends at stands among the further
// figures. MATH and GSM8K are out of reach here; the arithmetic problems stand in for
// them.
func sorsa() Experiment {
	return Experiment{
		Slug:   "sorsa",
		Claim:  "Training principal singular values and near-orthonormal vectors is more accurate than LoRA, PiSSA and full fine-tuning.",
		Figure: opticksLoss,
		Arms: append(arms(
			tuneArm{"sorsa", Method, "sorsa", 8},
			tuneArm{"lora", Baseline, "lora", 8},
			tuneArm{"pissa", Baseline, "pissa", 8},
			tuneArm{"full", Baseline, "full", 0},
		), textArms(
			tuneArm{"sorsa, no regulariser", Method, "sorsa gamma=0", 8},
			tuneArm{"sorsa, γ = 0.004", Method, "sorsa gamma=0.004", 8},
		)...),
		Seeds: 5, QuickSeeds: 2,
		Rule: All(
			BeatsIn(OfExtra(exactAnswer), "sorsa", "lora"), BeatsIn(OfExtra(exactAnswer), "sorsa", "pissa"), BeatsIn(OfExtra(exactAnswer), "sorsa", "full"),
			Beats("sorsa", "lora"), Beats("sorsa", "pissa"), Beats("sorsa", "full"),
		),
	}
}
