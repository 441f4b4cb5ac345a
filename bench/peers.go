// Package bench holds the scripts that do the benchmarks' work in other
// libraries. Each is a program of its own; with --serve it times one repetition
// for each line that it reads, so that two libraries can be measured in turn.
package bench

import _ "embed"

// GemmPeer multiplies matrices with numpy's BLAS.
//
//go:embed gemm_peer.py
var GemmPeer string

// TorchStep trains a llama-shaped model with PyTorch, and with PEFT for LoRA.
//
//go:embed torch_step.py
var TorchStep string

// AttentionPeer computes causal attention with PyTorch; it imports TorchStep's script,
// which must lie beside it as torch_step.py.
//
//go:embed attention_peer.py
var AttentionPeer string

// OpenPeer opens a checkpoint with safetensors.
//
//go:embed open_peer.py
var OpenPeer string

// MergePeer merges checkpoints with mergekit.
//
//go:embed merge_peer.py
var MergePeer string

// HMMPeer fits Gaussian hidden Markov models with hmmlearn.
//
//go:embed hmm_peer.py
var HMMPeer string

// OrdinalPeer fits proportional odds with statsmodels.
//
//go:embed ordinal_peer.py
var OrdinalPeer string
