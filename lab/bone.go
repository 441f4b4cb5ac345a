package lab

// bone is the experiment of Bone (Kang 2024): at as many trained entries as LoRA, its
// blocks shall learn faster, seen in the mean training loss of the first third of the
// steps, and end lower on held-out text than LoRA and PiSSA. The 7-billion-parameter
// figures of the paper (GSM8K, MATH) are out of reach here; the comparison between
// methods is what is measured.
func bone() Experiment {
	rank := matchedRank(onlyOut)
	return Experiment{
		Slug:   "bone",
		Claim:  "Bone learns faster than low-rank pairs and ends better at the same number of trained entries.",
		Figure: opticksLoss,
		Arms: arms(
			tuneArm{"bone", Method, "bone", rank},
			tuneArm{"bat", Method, "bat", 16},
			tuneArm{"lora", Baseline, "lora", 8},
			tuneArm{"pissa", Baseline, "pissa", 8},
			tuneArm{"full", Baseline, "full", 0},
		),
		Seeds: 5, QuickSeeds: 2,
		Rule: All(
			Beats("bone", "lora"), Beats("bone", "pissa"),
			BeatsIn(OfExtra(earlyLoss), "bone", "lora"), BeatsIn(OfExtra(earlyLoss), "bone", "pissa"),
		),
	}
}
