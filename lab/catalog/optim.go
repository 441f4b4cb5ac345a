package catalog

func optim() []Paper {
	return []Paper{
		{
			Number: 3, Slug: "frugal", API: "optim.Frugal", Verb: "tare pretrain",
			Title: "FRUGAL: Memory-Efficient Optimization by Reducing State Overhead for Scalable Training",
			Claim: "Splitting each gradient into a small part that Adam handles with its state and a rest that signSGD handles without any keeps updates of full rank, and beats concurrent memory-saving optimizers at every fixed memory budget, in pretraining and in tuning.",
			Plan:  Plan{Test: pretrainTest, Own: "Densities 0, 0.25 and 1, with blocks, columns, random directions and gradient directions as the part that has state.", Baselines: "AdamW, GaLore, BAdam, LoRA and ReLoRA, Fira, signSGD"},
		},
		{
			Number: 14, Slug: "weight-compander", API: "optim.WeightCompander", Verb: "tare pretrain",
			Title: "Weight Compander: A Simple Weight Reparameterization for Regularization",
			Claim: "Passing each weight through a bounded arctangent keeps weights from growing large and pushes them away from zero, which improves generalisation on top of the usual regularisers; its two constants can be learned.",
			Plan:  Plan{Own: "A perceptron, a small convolutional and a small residual network on subsets of 1,000 to 5,000 MNIST and Fashion-MNIST images; test accuracy and the histogram of weights, at least 5 seeds.", Baselines: "plain weights, L1, L2, each with and without dropout and augmentation"},
		},
		{
			Number: 21, Slug: "adamp", API: "optim.AdamP", Verb: "tare pretrain",
			Title: "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights",
			Claim: "Momentum makes scale-invariant weights grow, so that the effective step shrinks too soon; taking the radial part out of each update stops this and gives gains throughout 13 benchmarks.",
			Plan:  Plan{Own: "Small residual and plain networks with batch normalisation on MNIST and Fashion-MNIST, the paper's scale-invariant toy function, and a language model, where it is reported on which weights the test of invariance fires; accuracy, weight norms and effective steps.", Baselines: "AdamW against AdamP, SGD against SGDP"},
		},
		{
			Number: 22, Slug: "memory-efficient-pretraining", API: "optim.Refactor", Verb: "tare pretrain",
			Title: "Scalable Parameter and Memory Efficient Pretraining for LLM: Recent Algorithmic Advances and Benchmarking",
			Claim: "Well-tuned full-rank training is still best and updates of high rank are what the cheaper methods need; rebalancing the two factors and resetting momentum brings a low-rank 1B model below GaLore and Fira in perplexity with about 25 % less memory.",
			Plan:  Plan{Test: pretrainTest, Own: "The whole benchmark of methods, and the two techniques one by one and together on the low-rank model.", Baselines: "full-rank AdamW, low-rank factors, LoRA, ReLoRA, SLTrain, GaLore, Fira"},
		},
		{
			Number: 44, Slug: "gradnormlorp", API: "optim.GradNormLoRP", Verb: "tare pretrain",
			Title: "Gradient Weight-normalized Low-rank Projection for Efficient LLM Training",
			Claim: "Column-normalised weights with a low-rank part, projected gradients and 8-bit moments cut optimizer memory by up to 89.5 %; tuning RoBERTa on GLUE at rank 8 averages 80.65 where LoRA has 79.23.",
			Plan:  Plan{Test: pretrainTest, Own: "Optimizer bytes against AdamW, computed for the paper's settings and measured here; also the tune test and a small encoder on labelled mails.", Baselines: "LoRA, DoRA, GaLore with 8-bit moments"},
		},
		{
			Number: 54, Slug: "learngene-sws", API: "optim.SWS", Verb: "tare pretrain",
			Title: "Exploring Learngene via Stage-wise Weight Sharing for Initializing Variable-sized Models",
			Claim: "Distilling a large model into stages that share their weights, and unrolling those stages to any depth, starts models of many sizes better than training each from scratch at about 6.6 times less total cost, with about 20 times fewer stored parameters and 10 times less pretraining than pretraining each size.",
			Plan:  Plan{Own: "A vision transformer of 12 blocks on MNIST is the ancestor; descendants of 4 to 12 blocks learn Fashion-MNIST: accuracy after 1, 3 and 10 epochs, and the cost of everything.", Baselines: "training from scratch, blocks chosen at random, blocks chosen by a heuristic, pretraining each size"},
		},
	}
}
