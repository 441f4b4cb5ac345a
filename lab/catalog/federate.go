package catalog

func federate() []Paper {
	return []Paper{
		{
			Number: 7, Slug: "fedamd", API: "federate.FedAMD", Verb: "tare federate",
			Title: "Anchor Sampling for Federated Learning with Partial Client Participation",
			Claim: "Splitting the clients of a round into anchors, which compute one large-batch gradient, and miners, which take many small steps guided by it, converges in up to O(1/ε) fewer rounds on non-convex objectives, saves computation and traffic, and ends more accurate.",
			Plan:  Plan{Test: federateTest, Own: "The chance of being an anchor held constant and in turns; rounds, bytes and gradients to a given accuracy.", Baselines: "FedAvg, SCAFFOLD, FedPAGE, BVR-L-SGD, large batches throughout"},
		},
		{
			Number: 11, Slug: "fedau", API: "federate.FedAU", Verb: "tare federate",
			Title: "A Lightweight Method for Tackling Unknown Participation Statistics in Federated Averaging",
			Claim: "Weighing each client by the running average of how long it stayed away makes federated averaging converge to the right optimum when clients take part unevenly and unpredictably, with linear speed-up and no extra memory beyond counters.",
			Plan:  Plan{Test: federateTest, Own: "Clients that take part by uneven chance, by a Markov chain and in cycles; also the bias on a quadratic against its closed form.", Baselines: "FedAvg over participants and over all, FedVarp, MIFA"},
		},
		{
			Number: 13, Slug: "noise-robust-admm", API: "federate.ADMM", Verb: "tare federate",
			Title: "Noise-Robust and Resource-Efficient ADMM-based Federated Learning",
			Claim: "Eliminating the dual variable, so that a client uses one noisy copy of the global model instead of two, and letting clients that were not called go on working, keeps distributed least squares convergent in mean and mean square over noisy links.",
			Plan:  Plan{Own: "Weighted least squares over clients with noise on both ways: mean-square deviation, simulated and predicted by theory, for several noise levels and shares of clients called.", Baselines: "ADMM with its dual variable under noise, federated averaging"},
		},
		{
			Number: 33, Slug: "fl-unlimited-staleness", API: "federate.Staleness", Verb: "tare federate",
			Title: "Tackling the Unlimited Staleness in Federated Learning with Intertwined Data and Device Heterogeneities",
			Claim: "Where slow clients hold rare data, estimating that data by gradient inversion and recomputing their late update on the current model raises accuracy by up to 20 % and shortens training by up to 35 %, however late the update is.",
			Plan:  Plan{Test: federateTest, Own: "One class lives only on slow clients, at growing delays: accuracy on it and overall, and how little the estimated images resemble the real ones.", Baselines: "plain and weighted asynchronous averaging, first-order compensation, waiting"},
		},
		{
			Number: 51, Slug: "momentum-fedavg", API: "federate.Momentum", Verb: "tare federate",
			Title: "Momentum Benefits Non-IID Federated Learning Simply and Provably",
			Claim: "Mixing the last round's average direction into each local step lets FedAvg converge at a constant rate without any bound on how different the clients are, and makes SCAFFOLD provably faster when few take part; variance-reduced forms reach the best known rates.",
			Plan:  Plan{Test: federateTest, Own: "Quadratics whose heterogeneity is set, for rate and floor, and small networks on MNIST and Fashion-MNIST in uneven splits.", Baselines: "FedAvg, SCAFFOLD, each with and without momentum and variance reduction"},
		},
	}
}
