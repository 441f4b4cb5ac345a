package lab

// soka is the experiment of SoKA (Chong and Qu 2025): principal Kronecker terms with a
// quarter fewer trained entries than LoRA at rank 8 shall be no worse on held-out text
// and word problems than LoRA and PiSSA, learn faster, seen in the mean training loss of
// the first third of the steps, and more steadily, seen in the spread of the gradients'
// norms. On the bundled base 6 terms a matrix come nearest to a quarter fewer. That is a
// cap; how many each kind of matrix was given by its energy and elbow stands among the
// further figures. 9 terms in every matrix, as near as they come to LoRA's entries, are a
// further arm. GSM8K, MATH and MBPP are out of reach here.
func soka() Experiment {
	return Experiment{
		Slug:   "soka",
		Claim:  "Principal Kronecker terms with a quarter fewer trained entries match LoRA and PiSSA, and learn faster and more steadily.",
		Figure: opticksLoss,
		Arms: append(arms(
			tuneArm{"soka", Method, "soka", matchedRank(fourThirds)},
			tuneArm{"lora", Baseline, "lora", 8},
			tuneArm{"pissa", Baseline, "pissa", 8},
		), textArms(
			tuneArm{"soka, as many entries", Method, "soka energy=1 elbow=false", matchedRank(kroneckerTerm)},
		)...),
		Seeds: 5, QuickSeeds: 2,
		Rule: All(
			NotWorse("soka", "lora"), NotWorse("soka", "pissa"),
			NotWorseIn(OfExtra(exactAnswer), "soka", "lora"), NotWorseIn(OfExtra(exactAnswer), "soka", "pissa"),
			BeatsIn(OfExtra(earlyLoss), "soka", "lora"), BeatsIn(OfExtra(earlyLoss), "soka", "pissa"),
			BeatsIn(OfExtra(gradientSpread), "soka", "lora"), BeatsIn(OfExtra(gradientSpread), "soka", "pissa"),
		),
	}
}

// kroneckerTerm counts the entries of a term U ⊗ V whose factors are as square as SoKA
// makes them.
func kroneckerTerm(out, in int) int {
	o1, i2 := squarest(out), squarest(in)
	return o1*(in/i2) + (out/o1)*i2
}

// fourThirds makes matchedRank allow a quarter fewer entries.
func fourThirds(out, in int) int { return kroneckerTerm(out, in) * 4 / 3 }

// squarest returns the largest divisor of n up to its root.
func squarest(n int) int {
	best := 1
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			best = d
		}
	}
	return best
}
