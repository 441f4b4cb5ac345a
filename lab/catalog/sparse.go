package catalog

func sparse() []Paper {
	return []Paper{
		{
			Number: 49, Slug: "wina", API: "sparse.WINA", Verb: "tare generate",
			Title: "WINA: Weight Informed Neuron Activation for Accelerating Large Language Model Inference",
			Claim: "Keeping the inputs for which activation times column norm is largest, with no training, has a tighter error bound than looking at activations alone and scores up to 2.94 % above TEAL on average at the same sparsity.",
			Plan:  Plan{Test: compressTest, Own: "Sparsity of 25, 40, 50 and 65 %, spread evenly and by layer; perplexity and tokens a second from a kernel that skips what is zeroed.", Baselines: "TEAL, gating by the activation function (CATS), random choice"},
		},
		{
			Number: 57, Slug: "stable-rps", API: "sparse.StableRPS", Verb: "tare pretrain",
			Title: "In defense of parameter sharing for model-compression",
			Claim: "Reading all weights from one small shared array by hashing matches or beats smaller models and moderately informed pruning over the whole range of compression, and lottery-ticket rewinding at high compression; two repairs make it stable and equal to the plain model at no compression.",
			Plan:  Plan{Own: "A small residual, a plain convolutional network and a perceptron on Fashion-MNIST at compressions from 1 to 100, and the range of initial scales and learning rates that train.", Baselines: "smaller models, pruning at random, by magnitude, SNIP, SynFlow, GraSP, lottery-ticket rewinding"},
		},
		{
			Number: 65, Slug: "spdf", API: "sparse.SPDF", Verb: "tare pretrain",
			Title: "SPDF: Sparse Pre-training and Dense Fine-tuning for Large Language Models",
			Claim: "Pretraining with up to 75 % of the weights held at zero and letting them learn in tuning costs 2.5 times fewer pretraining operations for a 1.3B model without significant loss downstream; harder tasks suffer more.",
			Plan:  Plan{Test: pretrainTest, Own: "Sparsity of 0, 50 and 75 % at equal tokens, then tuning on two easier tasks and a harder one; operations are counted and seconds measured.", Baselines: "dense pretraining, sparse tuning of the sparse model"},
		},
	}
}
