package catalog

func merge() []Paper {
	return []Paper{
		{
			Number: 26, Slug: "breadcrumbs", API: "merge.Breadcrumbs", Verb: "tare merge",
			Title: "Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse Masks",
			Claim: "Dropping from each task's weight change both its outliers and its smallest entries lets many tasks be added to one model, better at several tasks at once than earlier merges and with no tuning for each new task.",
			Plan:  Plan{Own: "Two to eight tasks tuned from one base; the settings are fixed on the first and then left alone. Figure: average score as a share of the single-task models'.", Baselines: "task arithmetic, TIES, DARE, plain average, the single-task models"},
		},
		{
			Number: 30, Slug: "lmc-permutation", API: "merge.WeightMatching", Verb: "tare merge",
			Title: "Analysis of Linear Mode Connectivity via Permutation-Based Weight Matching",
			Claim: "Weight matching makes the line between two networks almost free of loss not by bringing them near, the distance hardly falls, but by lining up the singular vectors with large singular values; it beats the straight-through search when three or more models are merged.",
			Plan:  Plan{Own: "Perceptrons and convolutional networks on MNIST and Fashion-MNIST at widths of 1, 4 and 16: loss barrier before and after, ratio of distances, alignment of singular vectors, merges of three.", Baselines: "no permutation, straight-through search, activation matching"},
		},
		{
			Number: 31, Slug: "widen", API: "merge.WIDEN", Verb: "tare merge",
			Title: "Extend Model Merging from Fine-Tuned to Pre-Trained Large Language Models via Weight Disentanglement",
			Claim: "Weighing each column by how far its magnitude and direction have moved within its own model lets a lightly tuned model be merged with a further pretrained one and keeps both skills, where other merges lose one or both (Qwen1.5-Chat with Sailor, 7B and 14B).",
			Plan:  Plan{Own: "An arithmetic tune and a long continued pretraining from one base; figure: what is kept of both skills.", Baselines: "average, task arithmetic, TIES, DARE, spherical interpolation, Breadcrumbs"},
		},
	}
}
