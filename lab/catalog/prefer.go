package catalog

func prefer() []Paper {
	return []Paper{
		{
			Number: 12, Slug: "constrained-rlhf", API: "prefer.Constrained", Verb: "tare align",
			Title: "Confronting Reward Model Overoptimization with Constrained RLHF",
			Claim: "Each of several reward models is useful only up to a point, and their correlation moves it; holding each within its point by learned Lagrange multipliers prevents overoptimisation, and the points can be found within a single run.",
			Plan:  Plan{Test: preferTest, Own: "Two correlated learned reward models against a known gold reward; the gold reward is drawn over training.", Baselines: "PPO with fixed weights, with and without the penalty on divergence"},
		},
		{
			Number: 25, Slug: "rl-subnetworks", API: "prefer.Subnetwork", Verb: "tare align",
			Title: "Reinforcement Learning Finetunes Small Subnetworks in Large Language Models",
			Claim: "Reinforcement learning changes only 5 to 30 % of the parameters, in all layers and at nearly full rank, with 7 algorithms on 10 models; training that part alone recovers the accuracy and almost the same weights.",
			Plan:  Plan{Test: preferTest, Own: "Share of changed entries, rank and overlap of the changes over seeds and algorithms, in bf16 and f32; then only the found part is trained again.", Baselines: "supervised tuning, overlap by chance, random parts of the same size"},
		},
		{
			Number: 27, Slug: "mcts-dpo", API: "prefer.MCTS", Verb: "tare align",
			Title: "Monte Carlo Tree Search Boosts Reasoning via Iterative Preference Learning",
			Claim: "Preferences between single reasoning steps, gathered anew from the current model by tree search, lift a tuned Mistral-7B to 81.8 % on GSM8K (+5.9), 34.7 % on MATH (+5.8) and 76.4 % on ARC-C (+15.8).",
			Plan:  Plan{Test: preferTest, Own: "Exact-match accuracy over rounds on the word problems, against the compute spent on search.", Baselines: "supervised tuning, preferences between whole answers, step preferences gathered only once"},
		},
		{
			Number: 36, Slug: "rise", API: "prefer.RISE", Verb: "tare align",
			Title: "Subtle Errors Matter: Preference Learning via Error-injected Self-editing",
			Claim: "Pairs made by having the model put a small error into its own correct solution, trained along with sampled pairs, add 3.0 % on GSM8K and 7.9 % on MATH to Qwen2-7B-Instruct.",
			Plan:  Plan{Test: preferTest, Own: "Exact-match accuracy on the word problems and the count of errors of each kind, before and after.", Baselines: "supervised tuning, DPO on sampled pairs, DPO on steps"},
		},
		{
			Number: 58, Slug: "unpacking-dpo-ppo", API: "prefer.Grid", Verb: "tare align",
			Title: "Unpacking DPO and PPO: Disentangling Best Practices for Learning from Preference Feedback",
			Claim: "What matters most is the quality of the preference data (up to 8 %), then the algorithm (PPO above DPO by up to 2.5 % in mathematics and 1.2 % in general), then the reward model (up to 5 %, in mathematics only), and least the prompts.",
			Plan:  Plan{Test: preferTest, Own: "One grid over data quality, algorithm, reward model and prompts at equal compute; the size of each effect with its error.", Baselines: "each level of a factor is the baseline of the next"},
		},
	}
}
