package catalog

// The experiments that papers of a kind share, so that their figures can be
// read beside one another.
var (
	tuneTest = Test{"the tune test", "The bundled base model is tuned on the second text domain and on the arithmetic " +
		"word problems. All arms have the same number of trainable parameters, or the same rank where the claim is " +
		"about rank; each arm's learning rate is chosen from one grid of five on a validation split with seed 0. " +
		"Figures: held-out loss, exact-match accuracy, loss on the source domain before and after, seconds, and peak " +
		"bytes by kind."}
	pretrainTest = Test{"the pretraining test", "Llama-shaped models of about 3, 10 and 30 million parameters are trained " +
		"from scratch on the same tokens with a cosine schedule and warm-up, each arm's learning rate chosen from one " +
		"grid on seed 0. Figures: held-out loss, tokens a second, optimizer bytes, and peak bytes by kind, compared at " +
		"equal memory."}
	compressTest = Test{"the compression test", "The bundled base model, a llama-shaped model of about 30 million parameters, " +
		"and SmolLM2-135M where it is on disk are compressed with 64 to 128 calibration sequences of training text, " +
		"drawn anew for each seed. Figures: held-out perplexity, bits a weight with every scale, index and codebook " +
		"counted, seconds, and decoded tokens a second, with all arms at the same counted bits."}
	federateTest = Test{"the federated test", "Clients hold parts of one data set, split evenly, by Dirichlet draws, by " +
		"class or by writer, and some of them take part in each round. Figures: accuracy by round, bytes up and down, " +
		"gradients computed, and simulated wall time under device profiles."}
	preferTest = Test{"the preference tasks", "Tasks whose reward is exact: arithmetic word problems with worked steps and " +
		"a checked answer, string formats, and a composite of helpfulness, length and format whose gold reward is known, " +
		"so that overoptimisation can be seen."}
)
