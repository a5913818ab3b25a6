# As forward-events.yaml's parameters, with the same defaults.

variable "name" {
  type        = string
  default     = "podgrant-forward"
  description = "What the resources' names begin with; a stack's name in CloudFormation."
}

variable "home_bus_arn" {
  type        = string
  description = "The output BusArn of podgrant's home stack."
}

variable "tag_prefix" {
  type        = string
  default     = "podgrant/"
  description = "As in the home stack."
}

variable "alarm_topic_arn" {
  type        = string
  default     = ""
  description = "ARN of the SNS topic that the alarm goes to, in this region. Empty means an alarm that tells nobody."
}
