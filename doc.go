// Package tare is the root of a workbench for model weights: it inspects, tunes,
// quantizes, merges, evaluates and measures checkpoints, and holds a method for
// each paper of its catalog beside the baselines that the paper is compared with.
// The package itself is empty; its tests keep the module's promises about imports
// and documentation. Start at cmd/tare for the program, at method/adapt for what a
// method looks like, at engine/grad and engine/nn for what it stands on, and at
// docs/architecture.md for why.
package tare
