package lab

import "fmt"

// loraSB is the experiment of LoRA-SB (Ponkshe et al. 2024): a square matrix between
// frozen factors that approximate the first update of full fine-tuning shall end lower
// on held-out text than LoRA-XS, which takes them from the weight, at the same number of
// trained entries, and than LoRA with many times more. Ranks 7 and 12 train 81 and 27
// times fewer entries than LoRA at rank 8, about the ends of the paper's range. The look at
// the gradient counts in the seconds, and the share of the first update that its
// approximation keeps stands among the further figures.
func loraSB() Experiment {
	x := Experiment{
		Slug:   "lora-sb",
		Claim:  "A small square matrix between factors of the first full update ends better than LoRA with 27 to 81 times more trained entries, and than LoRA-XS.",
		Figure: opticksLoss,
		Seeds:  5, QuickSeeds: 2,
	}
	var parts []Rule
	for _, rank := range []int{7, 12} {
		sb, xs := fmt.Sprintf("lora-sb, rank %d", rank), fmt.Sprintf("lora-xs, rank %d", rank)
		x.Arms = append(x.Arms, textArms(tuneArm{sb, Method, "lora-sb", rank}, tuneArm{xs, Baseline, "lora-xs", rank})...)
		parts = append(parts, Beats(sb, xs), Beats(sb, "lora"))
	}
	x.Arms = append(x.Arms, arms(tuneArm{"lora", Baseline, "lora", 8}, tuneArm{"full", Baseline, "full", 0})...)
	x.Rule = All(parts...)
	return x
}
