package lab

import "fmt"

// adalora is the experiment of AdaLoRA (Zhang et al. 2023): at final budgets of 1, 2
// and 4 ranks a matrix on average, updates whose triplets were pruned over all matrices
// together shall end lower on held-out text than LoRA with the same rank everywhere.
// AdaLoRA trains half as many triplets again until they are pruned. That its gain is
// largest where the budget is small is read from the three findings; the ranks that
// each kind of matrix is left with stand among the further figures.
func adalora() Experiment {
	x := Experiment{
		Slug:   "adalora",
		Claim:  "One rank budget, moved to the matrices where it matters by pruning during training, ends better than the same rank everywhere.",
		Figure: opticksLoss,
		Seeds:  5, QuickSeeds: 2,
	}
	var parts []Rule
	for _, rank := range []int{1, 2, 4} {
		method, baseline := fmt.Sprintf("adalora, rank %d", rank), fmt.Sprintf("lora, rank %d", rank)
		x.Arms = append(x.Arms, textArms(
			tuneArm{method, Method, "adalora", rank},
			tuneArm{baseline, Baseline, "lora", rank},
		)...)
		parts = append(parts, Beats(method, baseline))
	}
	x.Rule = All(parts...)
	return x
}
