# As template.yaml's parameters, with the same defaults; a test holds them to each other. Two more take the place of what
# CloudFormation knows by itself.

variable "name" {
  type        = string
  default     = "podgrant"
  description = "What the resources' names begin with; a stack's name in CloudFormation."
}

variable "packages" {
  type        = string
  default     = ""
  description = "Folder that holds <function>/bootstrap.zip for each function, as cargo lambda build --output-format zip leaves them. Empty means target/lambda of the repository that this module stands in."
}

variable "regions" {
  type        = string
  default     = ""
  description = "Regions whose clusters are in the fleet, parted by commas. Empty means this one."
}

variable "bus_name" {
  type        = string
  default     = "podgrant"
  description = "Name of the event bus that podgrant makes. forward-events.yaml delivers to it."
}

variable "tag_prefix" {
  type        = string
  default     = "podgrant/"
  description = "What podgrant's tags begin with. Another prefix needs the keys of the policies' tag conditions changed too."
}

variable "grantable_roles" {
  type        = string
  default     = "*"
  description = "Which roles podgrant may hand to pods, as IAM's patterns say it, path and name; for example pods/*."
}

variable "sweep_minutes" {
  type        = number
  default     = 60
  description = "Minutes from one look at the whole fleet to the next."

  validation {
    condition     = var.sweep_minutes >= 2 && var.sweep_minutes <= 480
    error_message = "2 to 480."
  }
}

variable "drift_rounds" {
  type        = number
  default     = 24
  description = "After how many sweeps every association was described once, though the tag index shows no need. 0 means never."

  validation {
    condition     = var.drift_rounds >= 0
    error_message = "At least 0."
  }
}

variable "refused_namespaces" {
  type        = string
  default     = "kube-system,kube-public,kube-node-lease"
  description = "Namespaces whose service accounts get no roles, parted by commas; none lets all have them."
}

variable "role_paths" {
  type        = string
  default     = ""
  description = "Paths of the roles that pods may get, such as /apps/, parted by commas. Empty means any."
}

variable "refuse_administrators" {
  type        = string
  default     = "on"
  description = "With on, pods get no role whose policies allow everything."

  validation {
    condition     = contains(["on", "off"], var.refuse_administrators)
    error_message = "One of on, off."
  }
}

variable "max_service_accounts" {
  type        = number
  default     = 10
  description = "A role whose grants name more service accounts is refused."

  validation {
    condition     = var.max_service_accounts >= 1
    error_message = "At least 1."
  }
}

variable "required_boundary" {
  type        = string
  default     = ""
  description = "ARN of the permissions boundary that a role must have. Empty means none."
}

variable "on_refused" {
  type        = string
  default     = "report"
  description = "What becomes of an association whose grant is refused now by one of the five above."

  validation {
    condition     = contains(["report", "withdraw"], var.on_refused)
    error_message = "One of report, withdraw."
  }
}

variable "agent_version" {
  type        = string
  default     = "default"
  description = "The agent's version where a cluster's tag does not say; default, latest, a version, or a line such as v1.3."
}

variable "agent_configuration" {
  type        = string
  default     = ""
  description = "Configuration values for agents that podgrant installs, as JSON. Empty means AWS's defaults."
}

variable "kubernetes" {
  type        = string
  default     = "on"
  description = "With off, no cluster's own Kubernetes API is asked; of agents the add-on's status counts, and patterns are not expanded."

  validation {
    condition     = contains(["on", "off"], var.kubernetes)
    error_message = "One of on, off."
  }
}

variable "access_entries" {
  type        = string
  default     = "on"
  description = "With on, a cluster that lets podgrant not look is given an access entry; for install-agent, to view kube-system; for reconcile-associations, only where a pattern asks for it."

  validation {
    condition     = contains(["on", "off"], var.access_entries)
    error_message = "One of on, off."
  }
}

variable "max_deletions" {
  type        = number
  default     = 100
  description = "A message that would have more associations deleted has none deleted."

  validation {
    condition     = var.max_deletions >= 0
    error_message = "At least 0."
  }
}

variable "max_deletion_share" {
  type        = number
  default     = 0.2
  description = "The sweep of a cluster, or of orphans, that would delete a larger share of the managed associations deletes none."

  validation {
    condition     = var.max_deletion_share >= 0 && var.max_deletion_share <= 1
    error_message = "0 to 1."
  }
}

variable "dry_run" {
  type        = string
  default     = "off"
  description = "With on, plans are logged and nothing is changed."

  validation {
    condition     = contains(["on", "off"], var.dry_run)
    error_message = "One of on, off."
  }
}

variable "retry_delay" {
  type        = number
  default     = 60
  description = "Seconds that unfinished work waits on its queue."

  validation {
    condition     = var.retry_delay >= 0 && var.retry_delay <= 900
    error_message = "0 to 900."
  }
}

variable "give_up_after" {
  type        = number
  default     = 3600
  description = "Seconds after which unfinished work is given up, with an event."

  validation {
    condition     = var.give_up_after >= 0
    error_message = "At least 0."
  }
}

variable "orphan_grace" {
  type        = number
  default     = 604800
  description = "Seconds that a role may name clusters that are not there before it is reported, and before a marked one is deleted."

  validation {
    condition     = var.orphan_grace >= 0
    error_message = "At least 0."
  }
}

variable "delete_roles" {
  type        = string
  default     = "off"
  description = "With on, roles all of whose clusters are gone are marked and deleted, if their own tag podgrant/on-orphan = delete asks for it."

  validation {
    condition     = contains(["on", "off"], var.delete_roles)
    error_message = "One of on, off."
  }
}

variable "max_role_deletions" {
  type        = number
  default     = 5
  description = "A sweep that would have more roles deleted has none deleted."

  validation {
    condition     = var.max_role_deletions >= 0
    error_message = "At least 0."
  }
}

variable "log_level" {
  type        = string
  default     = "info"
  description = "What is logged; info or debug, or a filter such as podgrant_aws=debug."
}

variable "log_retention_days" {
  type        = number
  default     = 90
  description = "How long logs are kept."
}

variable "function_timeout" {
  type        = number
  default     = 300
  description = "Seconds that one invocation may take."

  validation {
    condition     = var.function_timeout >= 30 && var.function_timeout <= 900
    error_message = "30 to 900."
  }
}

variable "visibility_timeout" {
  type        = number
  default     = 1800
  description = "Seconds until a failed message is delivered again. AWS advises six times the function's time."
}

variable "maximum_concurrency" {
  type        = number
  default     = 5
  description = "How many copies of a function work at once. With their pace, this is the rate at which AWS is called."

  validation {
    condition     = var.maximum_concurrency >= 2 && var.maximum_concurrency <= 1000
    error_message = "2 to 1000."
  }
}

variable "architecture" {
  type        = string
  default     = "arm64"
  description = "What the functions were built for."

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "One of arm64, x86_64."
  }
}

variable "encryption" {
  type        = string
  default     = "owned"
  description = "Whose key encrypts queues, bus and logs; AWS's own, or a customer managed one that this stack makes."

  validation {
    condition     = contains(["owned", "customer"], var.encryption)
    error_message = "One of owned, customer."
  }
}

variable "watch" {
  type        = string
  default     = "on"
  description = "With on, ten alarms for each function and a dashboard are made. CloudWatch charges for each."

  validation {
    condition     = contains(["on", "off"], var.watch)
    error_message = "One of on, off."
  }
}

variable "alarm_topic_arn" {
  type        = string
  default     = ""
  description = "ARN of the SNS topic that alarms go to, in this region. Empty means alarms that tell nobody."
}
