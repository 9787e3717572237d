"""BERT distillation (TinyBERT): the names that people use, each loaded when it is first asked for."""

from importlib import import_module

__version__ = "0.2.0"

# Public name -> where it is defined. Everything else is imported from its module.
_PUBLIC = {
    "TaskForm": "tinybert_nb.data.task_form:TaskForm",
    "TaskFiles": "tinybert_nb.data.splits:TaskFiles",
    "read_examples": "tinybert_nb.data.examples:read_examples",
    "load_classifier": "tinybert_nb.models.loading:load_classifier",
    "load_tokenizer": "tinybert_nb.models.tokenizers:load_tokenizer",
    "student_config": "tinybert_nb.models.sizes:student_config",
    "trace_forward": "tinybert_nb.models.trace:trace_forward",
    "Distiller": "tinybert_nb.distillation.distiller:Distiller",
    "Term": "tinybert_nb.distillation.distiller:Term",
    "plan": "tinybert_nb.distillation.plan:plan",
    "FinetuneSettings": "tinybert_nb.training.settings:FinetuneSettings",
    "StageOneSettings": "tinybert_nb.training.settings:StageOneSettings",
    "StageTwoSettings": "tinybert_nb.training.settings:StageTwoSettings",
    "DistillSettings": "tinybert_nb.training.settings:DistillSettings",
    "GeneralSettings": "tinybert_nb.training.settings:GeneralSettings",
    "AugmentationSettings": "tinybert_nb.training.settings:AugmentationSettings",
    "evaluate": "tinybert_nb.evaluation.measurement:evaluate",
    "predict": "tinybert_nb.evaluation.labelling:predict",
    "label_texts": "tinybert_nb.evaluation.labelling:label_texts",
    "results_table": "tinybert_nb.evaluation.tables:results_table",
    "finetune": "tinybert_nb.recipes.finetuning:finetune",
    "stage_one": "tinybert_nb.recipes.stage_one:stage_one",
    "stage_two": "tinybert_nb.recipes.stage_two:stage_two",
    "distill": "tinybert_nb.recipes.task_distillation:distill",
    "distill_general": "tinybert_nb.recipes.general_distillation:distill_general",
    "augment_file": "tinybert_nb.recipes.augmented_files:augment_file",
    "trim_vocabulary": "tinybert_nb.deployment.vocabulary_trimming:trim_vocabulary",
    "export": "tinybert_nb.deployment.onnx_export:export_model",
    "Predictor": "tinybert_nb.deployment.predictor:Predictor",
    "AttentionExplorer": "tinybert_nb.analysis.explorer:AttentionExplorer",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    "Import a public name from its module; AttributeError for any other."
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, symbol = _PUBLIC[name].partition(":")
    value = globals()[name] = getattr(import_module(module), symbol)
    return value


def __dir__() -> list[str]:
    "The module's names, those not loaded yet included, so that completion offers them."
    return sorted({*globals(), *_PUBLIC})
