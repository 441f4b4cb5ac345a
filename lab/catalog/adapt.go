package catalog

func adapt() []Paper {
	return []Paper{
		{
			Number: 1, Slug: "bone", State: Measured, API: "adapt.Bone", Verb: "tare tune",
			Title: "Bone: Block Affine Transformation as Parameter Efficient Fine-tuning Methods for Large Language Models",
			Claim: "One small trainable block, laid over the whole frozen weight, learns faster and ends better than low-rank pairs: on LLaMA2-7B it reaches 49.36 on GSM8K and 8.8 on MATH, 5.84 and 1.96 points above PiSSA.",
			Plan:  Plan{Test: tuneTest, Own: "Area under the loss curve over the first third of the steps, and the final figures, at equal parameters.", Baselines: "LoRA, PiSSA, full fine-tuning"},
		},
		{
			Number: 2, Slug: "lift", State: Runs, API: "adapt.LIFT", Verb: "tare tune",
			Title: "LIFT the Veil for the Truth: Principal Weights Emerge after Rank Reduction for Reasoning-Focused Supervised Fine-Tuning",
			Claim: "Training only the 5 % of entries that are largest after a low-rank approximation of the weight beats full fine-tuning on reasoning at the memory cost of LoRA, and keeps up to 20 % more knowledge of the source domain than full fine-tuning and LoRA.",
			Plan:  Plan{Test: tuneTest, Own: "The entries are chosen anew every few hundred steps from the current weight. Optimizer bytes are counted against two moments for each chosen entry, and the source-domain loss is the second figure.", Baselines: "full fine-tuning, LoRA, sparse tuning of the largest entries, sparse tuning of random entries, S²FT"},
		},
		{
			Number: 5, Slug: "adalora", State: Measured, API: "adapt.AdaLoRA", Verb: "tare tune",
			Title: "Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning",
			Claim: "Updates held in the form of a singular value decomposition, whose least important triplets are pruned during training, spend one rank budget better than an even split over matrices; the gain over LoRA is largest when the budget is small.",
			Plan:  Plan{Test: tuneTest, Own: "Budgets of 1, 2 and 4 ranks a matrix on average; the ranks that each matrix is left with are reported.", Baselines: "LoRA at the final total rank; bottleneck adapters and bias-only tuning as further arms"},
		},
		{
			Number: 6, Slug: "s2ft", State: Runs, API: "adapt.S2FT", Verb: "tare tune",
			Title: "S^{2}FT: Efficient, Scalable and Generalizable LLM Fine-tuning by Structured Sparsity",
			Claim: "Choosing a few heads and channels, permuting the coupled matrices so that they lie side by side, and training that dense slice in place gains 4.6 % on commonsense and 1.3 % on arithmetic over LoRA and 11.5 % over full fine-tuning on unseen domains, with up to 3 times less memory and 1.5 to 2.7 times less latency than full fine-tuning.",
			Plan:  Plan{Test: tuneTest, Own: "Seconds a step and peak bytes against full fine-tuning and LoRA, with heads and channels chosen at random, by weight, by activation, by their product and by gradient; adapters are fused, unfused and switched exactly.", Baselines: "LoRA, full fine-tuning"},
		},
		{
			Number: 15, Slug: "ist", State: Runs, API: "adapt.IST", Verb: "tare tune",
			Title: "Layer-wise Importance Matters: Less Memory for Better Performance in Parameter-efficient Fine-tuning of Large Language Models",
			Claim: "Learning how much each layer matters and training only the adapters of a few sampled layers at each step needs less memory and gives better accuracy than training all of them, whichever adapter it is put on.",
			Plan:  Plan{Test: tuneTest, Own: "Put on LoRA and on two further adapters, with a quarter of the layers trained at each step; the layers' scores are drawn over the steps.", Baselines: "the same adapter on all layers; layers sampled at random with frozen scores"},
		},
		{
			Number: 18, Slug: "paca", State: Measured, API: "adapt.PaCA", Verb: "tare tune",
			Title: "PaCA: Partial Connection Adaptation for Efficient Fine-Tuning",
			Claim: "Training randomly chosen columns of the weight itself adds no layer and keeps only those columns' activations: 22 % less training time and 16 % less memory than LoRA at comparable accuracy, 23 % longer sequences and 16 % more throughput.",
			Plan:  Plan{Test: tuneTest, Own: "Seconds a step and peak bytes on a llama shape, interleaved with LoRA; quality by the tune test.", Baselines: "LoRA, DoRA, full fine-tuning"},
		},
		{
			Number: 37, Slug: "dsee", State: Runs, API: "adapt.DSEE", Verb: "tare tune",
			Title: "DSEE: Dually Sparsity-embedded Efficient Tuning of Pre-trained Language Models",
			Claim: "A low-rank plus sparse update on a weight that is itself pruned saves both while tuning and while running: about 25 % of BERT's inference operations at comparable performance with 0.5 % of the parameters trained.",
			Plan:  Plan{Test: tuneTest, Own: "Operations and measured latency, for single entries and for whole heads and neurons; a small encoder that sorts the labelled mails, where they are at hand.", Baselines: "LoRA, full fine-tuning with magnitude pruning, iterative magnitude pruning"},
		},
		{
			Number: 38, Slug: "eva", State: Measured, API: "adapt.EVA", Verb: "tare tune",
			Title: "One Initialization to Rule them All: Fine-tuning via Explained Variance Adaptation",
			Claim: "Starting LoRA from the leading right-singular vectors of the layer's own activations, with ranks moved to the layers where they explain most variance, converges faster and has the highest average score over the tasks of each field tried.",
			Plan:  Plan{Test: tuneTest, Own: "Area under the loss curve and final figures; the seconds spent on the streamed decomposition count; even ranks are a further arm.", Baselines: "LoRA, PiSSA, AdaLoRA"},
		},
		{
			Number: 39, Slug: "flora", State: Runs, API: "adapt.FLoRA", Verb: "tare tune",
			Title: "FLoRA: Low-Rank Core Space for N-dimension",
			Claim: "A weight change kept as a small Tucker core with one factor a dimension, instead of being flattened into a matrix, fits convolution kernels and linear layers better than LoRA at equal or fewer parameters.",
			Plan:  Plan{Own: "A small residual network that knows the digits 0 to 4 learns 5 to 9 from 500 images, and the linear layers of the bundled base run the tune test; test accuracy and held-out loss at equal parameters.", Baselines: "LoRA on the flattened kernel, full fine-tuning"},
		},
		{
			Number: 50, Slug: "randlora", State: Runs, API: "adapt.RandLoRA", Verb: "tare tune",
			Title: "RandLoRA: Full-rank parameter-efficient fine-tuning of large models",
			Claim: "Sums of fixed random low-rank matrices, scaled by small trained diagonals, give updates of full rank at the size and memory of LoRA; they narrow the gap to full fine-tuning, and on vision-language tasks sometimes close it.",
			Plan:  Plan{Test: tuneTest, Own: "The rank of the update and the optimizer's bytes are reported with each figure; sparse bases are a further arm.", Baselines: "LoRA, VeRA, full fine-tuning"},
		},
		{
			Number: 53, Slug: "sorsa", State: Runs, API: "adapt.SORSA", Verb: "tare tune",
			Title: "SORSA: Singular Values and Orthonormal Regularized Singular Vectors Adaptation of Large Language Models",
			Claim: "Training the leading singular values and vectors while holding the vectors near orthonormal scores 10.36 % on MATH with Llama 2 7B (LoRA 5.50, full 7.22, PiSSA 7.44) and 56.03 % on GSM8K (42.30, 49.05, 53.07).",
			Plan:  Plan{Test: tuneTest, Own: "The strength of the regulariser is swept, and the deviation from orthonormality stands beside each figure.", Baselines: "LoRA, PiSSA, full fine-tuning"},
		},
		{
			Number: 60, Slug: "lora-sb", State: Runs, API: "adapt.LoRASB", Verb: "tare tune",
			Title: "Initialization using Update Approximation is a Silver Bullet for Extremely Efficient Low-Rank Fine-Tuning",
			Claim: "A small square matrix between two frozen factors, all three started from the first update that full fine-tuning would make, beats LoRA with 27 to 90 times fewer trained parameters and LoRA-XS throughout, with no scale to tune.",
			Plan:  Plan{Test: tuneTest, Own: "Parameters are not held equal: 27 and 81 times fewer than LoRA's, and the figure is read against their number. The gradient sample for the start is taken one layer at a time, and its seconds count.", Baselines: "LoRA, LoRA-XS, full fine-tuning"},
		},
		{
			Number: 61, Slug: "transformed-low-rank", State: Runs, API: "adapt.Transformed", Verb: "tare tune",
			Title: "Transformed Low-rank Adaptation via Tensor Decomposition and Its Applications to Text-to-image Models",
			Claim: "Multiplying the weight by a learned full-rank transform in tensor-ring form lowers the rank of what is left to learn, so that transform and residual together need fewer parameters than LoRA and generate better images of a subject or under a control.",
			Plan:  Plan{Own: "First the change of a really fully tuned checkpoint is fitted: relative error against parameters. Then a small class-conditional diffusion model on MNIST learns a new class from 20 images: feature distance to held-out images of that class.", Baselines: "LoRA, transform only, DoRA and an orthogonal transform as special cases"},
		},
		{
			Number: 62, Slug: "soka", State: Runs, API: "adapt.SoKA", Verb: "tare tune",
			Title: "Singular Value Decomposition on Kronecker Adaptation for Large Language Model",
			Claim: "Principal Kronecker terms of the weight, as many as an energy threshold and the elbow of the spectrum ask for, match or beat LoRA and PiSSA on LLaMA2-7B with 0.99 million parameters, 25 % fewer, and converge faster and more steadily.",
			Plan:  Plan{Test: tuneTest, Own: "Also the curve's area and the spread of gradient norms; the rank that each layer was given is reported.", Baselines: "LoRA, PiSSA"},
		},
		{
			Number: 68, Slug: "atp", State: Runs, API: "adapt.ATP", Verb: "tare tune",
			Title: "All-in-One Tuning and Structural Pruning for Domain-Specific LLMs",
			Claim: "Deciding what to remove while tuning, by a trained generator of decisions, rather than before it, keeps 88 % of dense performance on LLaMA2-7B and 91 % on LLaMA3-8B with 40 % of the parameters gone, on legal and medical tasks, above two-stage pruning.",
			Plan:  Plan{Own: "The bundled base and a model of 10 million parameters lose 20 and 40 % of their parameters on the second text domain; held-out loss as a share of the dense model's, and the exported model's size and speed.", Baselines: "pruning first and LoRA after, random groups"},
		},
	}
}
