package lab

// paca is the experiment of PaCA (Woo et al. 2025). Quality is the tune test, at as
// many trained entries as LoRA. Time and memory are those of a training step of a
// llama of 100 million parameters with sequences of 512, every method at the same
// rank, the arms in turn: see [footprint]. Columns of largest norm and of largest
// gradient are further arms.
func paca() Experiment {
	x := Experiment{
		Slug:   "paca",
		Claim:  "PaCA takes less time and less memory than LoRA at the same rank, at comparable quality.",
		Figure: opticksLoss,
		Seeds:  5, QuickSeeds: 2,
		Rule: All(
			NotWorse("paca", "lora"),
			BeatsIn(OfExtra(stepSeconds), "paca", "lora"), BeatsIn(OfExtra(stepPeak), "paca", "lora"),
		),
	}
	rank := matchedRank(onlyOut)
	x.Arms = append(footprintArms(
		tuneArm{"paca", Method, "paca", rank},
		tuneArm{"lora", Baseline, "lora", 8},
		tuneArm{"dora", Baseline, "dora", 8},
		tuneArm{"full", Baseline, "full", 0},
	), textArms( // whose steps are the first's
		tuneArm{"paca, by norm", Method, "paca choice=norm", rank},
		tuneArm{"paca, by gradient", Method, "paca choice=gradient", rank},
	)...)
	return x
}
