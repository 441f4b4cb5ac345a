package lab

import "fmt"

// atp is the experiment of ATP (Lu et al. 2024): with 20 and 40 % of the blocks' entries
// removed as whole heads and channels, deciding while tuning shall end below pruning
// first, by magnitude times activation or by the loss's first order, and LoRA after, and
// below random groups. LoRA on the whole model tells what of the dense model's quality
// is left. The exported models' operations are counted and a pass is timed. All baselines
// stand at 40 %, where the paper's figures are; at 20 % magnitude alone does.
func atp() Experiment {
	x := Experiment{
		Slug:   "atp",
		Claim:  "Deciding which heads and channels to remove while tuning ends better than removing them first and tuning after.",
		Figure: opticksLoss,
		Seeds:  5, QuickSeeds: 2,
	}
	magnitude, taylor, random := "choice=magnitude", "choice=taylor scope=model", "choice=random"
	names := map[string]string{magnitude: "by magnitude", taylor: "by taylor", random: "random groups"}
	var parts []Rule
	add := func(gone string, keep float64, choices ...string) {
		method := "atp, " + gone
		list := []tuneArm{{method, Method, fmt.Sprintf("atp keep=%g", keep), 8}}
		for _, settings := range choices {
			name := fmt.Sprintf("two stages, %s, %s", names[settings], gone)
			list = append(list, tuneArm{name, Baseline, fmt.Sprintf("twostage keep=%g %s", keep, settings), 8})
			parts = append(parts, Beats(method, name))
		}
		x.Arms = append(x.Arms, textArms(list...)...)
	}
	add("40 %", 0.6, magnitude, taylor, random)
	add("20 %", 0.8, magnitude)
	x.Arms = append(x.Arms, arms(tuneArm{"lora, nothing removed", Baseline, "lora", 8})...)
	x.Rule = All(parts...)
	return x
}
