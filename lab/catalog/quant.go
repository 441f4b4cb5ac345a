package catalog

func quant() []Paper {
	return []Paper{
		{
			Number: 9, Slug: "ofq", API: "quant.OFQ", Verb: "tare quantize",
			Title: "Oscillation-free Quantization for Low-bit Vision Transformers",
			Claim: "Weights that jump between two levels spoil quantization-aware training; scales from weight statistics, freezing the confident weights, and quantizing the product of query and key lift 2-bit DeiT-T and DeiT-S by 9.8 and 7.7 points over the best before.",
			Plan:  Plan{Own: "A small vision transformer on MNIST and Fashion-MNIST, trained in float and then with 2-bit and with 3-bit weights and activations; accuracy and the share of oscillating weights.", Baselines: "quantization with learned scales (LSQ, LSQ+), learned clipping"},
		},
		{
			Number: 24, Slug: "pb-llm", API: "quant.PBLLM", Verb: "tare quantize",
			Title: "PB-LLM: Partially Binarized Large Language Models",
			Claim: "Keeping a small share of salient weights at 8 bits lets all others shrink to their sign, where plain binarisation collapses; Hessian-guided reconstruction or short training with a closed-form scale brings back the model's reasoning.",
			Plan:  Plan{Test: compressTest, Own: "Salient shares of 0, 5, 10 and 30 %, after training and with a short training budget.", Baselines: "2-bit rounding, 2-bit GPTQ, plain binarisation"},
		},
		{
			Number: 29, Slug: "bitstack", API: "quant.BitStack", Verb: "tare compress",
			Title: "BitStack: Fine-Grained Size Control for Compressed Large Language Models in Variable Memory Environments",
			Claim: "Splitting weights into a stack of residual blocks of about one bit a weight, sorted by what they are worth, lets a model fit any memory budget to the megabyte without training, and matches or beats strong quantizers, most of all at extreme ratios.",
			Plan:  Plan{Test: compressTest, Own: "Perplexity against bytes along the whole stack; any prefix of the file is a model.", Baselines: "GPTQ and AWQ at 2, 3 and 4 bits, residual decomposition without the sign split"},
		},
		{
			Number: 34, Slug: "flexround", API: "quant.FlexRound", Verb: "tare quantize",
			Title: "FlexRound: Learnable Rounding based on Element-wise Division for Post-Training Quantization",
			Claim: "Learning a divisor for each weight along with the common grid, block by block, lets large weights move further than addition does; whole language models go to per-tensor integers with negligible loss against half precision.",
			Plan:  Plan{Test: compressTest, Own: "Block-wise reconstruction with the same steps for all learners of rounding, one grid a tensor.", Baselines: "rounding to nearest, AdaRound, AdaQuant"},
		},
		{
			Number: 46, Slug: "shiftaddllm", API: "quant.ShiftAdd", Verb: "tare quantize",
			Title: "ShiftAddLLM: Accelerating Pretrained LLMs via Post-Training Multiplication-Less Reparameterization",
			Claim: "Binary matrices with power-of-two scales turn products into shifts, look-ups and adds without training: perplexity is better by 5.6 points at 3 bits and 22.7 at 2 bits on average at comparable or lower latency, with over 80 % less memory and energy.",
			Plan:  Plan{Test: compressTest, Own: "The accurate and the fast form, with bits spread over layers by sensitivity; energy comes from published costs of operations and is marked as a model.", Baselines: "rounding to nearest, GPTQ, binary coding without shifts"},
		},
		{
			Number: 47, Slug: "vptq", API: "quant.VPTQ", Verb: "tare quantize",
			Title: "VPTQ: Extreme Low-bit Vector Post-Training Quantization for Large Language Models",
			Claim: "Second-order vector quantization, column by column with residual and outlier codebooks, lowers 2-bit perplexity against the best before by 0.01 to 0.34 on LLaMA-2, 0.38 to 0.68 on Mistral-7B and 4.41 to 7.34 on LLaMA-3, in 10.4 to 18.6 % of the quantization time and with 1.6 to 1.8 times the throughput.",
			Plan:  Plan{Test: compressTest, Own: "About 2 and 3 counted bits; seconds to quantize are a figure of their own.", Baselines: "2-bit GPTQ, k-means vectors without the Hessian, additive codebooks as a further arm"},
		},
		{
			Number: 52, Slug: "adadim", API: "quant.AdaDim", Verb: "tare quantize",
			Title: "Rethinking Channel Dimensions to Isolate Outliers for Low-bit Weight Quantization of Large Language Models",
			Claim: "Groups that run along the outputs shut each outlying input channel into scales of its own; choosing the direction layer by layer adds up to 4.7 % on MMLU for base models and up to 10 % on HumanEval for tuned ones.",
			Plan:  Plan{Test: compressTest, Own: "3 and 4 bits, the choice of direction reported by layer, on plain rounding and on GPTQ.", Baselines: "rounding to nearest, GPTQ and AWQ with groups along the inputs"},
		},
		{
			Number: 66, Slug: "awq", API: "quant.AWQ", Verb: "tare quantize",
			Title: "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration",
			Claim: "About 1 % of the channels, found by their activations, deserve protection, and scaling them up before rounding protects them: 3 and 4 bits with little loss and no training, 1.45 times faster than GPTQ's kernels and 1.85 times faster than half precision.",
			Plan:  Plan{Test: compressTest, Own: "3 and 4 bits in groups of 128; the packed file opens in the usual tools.", Baselines: "rounding to nearest, GPTQ, fixed scaling with exponent 0.5"},
		},
		{
			Number: 67, Slug: "zeroquant-fp", API: "quant.ZeroQuantFP", Verb: "tare quantize",
			Title: "ZeroQuant-FP: A Leap Forward in LLMs Post-Training W4A8 Quantization Using Floating-Point Formats",
			Claim: "8-bit floating-point activations beat 8-bit integers, more so above a billion parameters, and 4-bit float weights are as good as 4-bit integers or better; tying the scales to powers of two costs next to nothing, and a low-rank correction helps small models most.",
			Plan:  Plan{Test: compressTest, Own: "The full table: integer or float weights, integer or float activations, each with no constraint or one of two, with and without the correction.", Baselines: "the integer twin of each float arm"},
		},
	}
}
